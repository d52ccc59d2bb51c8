"""Column names in data sets, by what they hold, and the values of a record under such names.

Names are compared ignoring case, outer spaces and full-width forms, and with `_` for spaces and hyphens.
"""

import re
import unicodedata
from collections.abc import Container, Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from engine.data.shapes.account import RefusedError

# The column names of each part of a conversation.
NAMES: dict[str, tuple[str, ...]] = {
    "system": ("system", "system_prompt", "meta_instruction", "系统", "系统提示", "系统提示词"),
    "history": ("history", "历史", "历史对话"),
    "instruction": ("instruction", "指令"),
    "question": ("prompt", "question", "query", "提问", "问题", "问"),
    "input": ("input", "输入"),
    "context": ("context", "passage", "上下文", "背景"),
    "answer": (
        "response", "completion", "answer", "output", "chosen", "answerkey", "回复", "回答", "答案", "答", "输出",
    ),
    # read if those above are absent: otherwise they are columns about something else
    "asker": ("user", "human", "ask", "q", "用户"),
    "answerer": ("assistant", "gpt", "bot", "target", "reply", "a", "助手"),
    "answers": ("answers",),
    "paragraphs": ("paragraphs",),
    "messages": ("messages",),
    "conversations": ("conversations",),
    "conversation": ("conversation", "dialogue", "dialog", "对话"),
    "contents": ("contents",),
    "prompt_turns": ("prompt_turns",),  # where turns begin in a prompt written by an import
    "data": ("data",),
    "chat": ("chat",),
    "choices": ("choices", "options", "选项"),
    # false if an answer should not be given: `label` only in preference data
    "label": ("label",),
    "kto_tag": ("kto_tag",),
    # of data with single messages, and of messages with all replies to them
    "tree": ("parent_id", "message_tree_id", "replies"),
    "tools": ("tools", "functions"),  # that a model may call
    # content other than text
    "beyond_text": ("image", "images", "audio", "audios", "video", "videos"),
}  # fmt: skip


LISTS = ("messages", "conversations", "conversation", "contents", "data", "paragraphs", "prompt_turns")


def canonical(name: object) -> str:
    """A name in the form in which names are compared."""
    text = unicodedata.normalize("NFKC", str(name)).strip("\ufeff \t\r\n").casefold()
    return text.replace(" ", "_").replace("-", "_")


PART_OF = {name: part for part, names in NAMES.items() for name in names}
OPTION = re.compile("(?:option|choice|选项)?_?([a-h])")  # as a canonical name; `a` alone has another meaning
LONGEST_LAYOUT = 1000  # characters of all names together, for layouts that are cached
LONGEST_NAME = 64  # characters; all known names are shorter


def part_of(name: object) -> str:
    """The part that a column of this name holds; empty if unknown."""
    text = str(name)
    return _part_of(text) if len(text) <= LONGEST_NAME else ""


@lru_cache(4096)
def _part_of(name: str) -> str:
    known = canonical(name)
    return PART_OF.get(known) or ("option" if OPTION.fullmatch(known) else "")


class Read(Container[object]):
    """The columns that are read: those that were named, and those known to some shape; with `every` all of them."""

    def __init__(self, named: Iterable[str], *, every: bool = False) -> None:
        self._named, self._every = frozenset(named), every

    def __contains__(self, name: object) -> bool:
        return self._every or name in self._named or part_of(name) != ""


def listlike(value: Any) -> bool:
    """Whether a value is a list, the JSON text of one, or an object of lists of equal length."""
    if isinstance(value, Mapping):
        return (
            bool(value)
            and all(isinstance(part, list) for part in value.values())
            and len(set(map(len, value.values()))) == 1
        )
    return isinstance(value, list | tuple) or (isinstance(value, str) and value.lstrip()[:1] == "[")


def blank(value: Any) -> bool:
    """Whether a value is empty: null, NaN, only spaces, an empty list or object, or the text of one."""
    if isinstance(value, str):
        return value.strip() in ("", "[]", "{}")
    if isinstance(value, float):
        return value != value
    return value is None or (isinstance(value, list | tuple | Mapping) and not value)


class ColumnLayout(NamedTuple):
    """Which columns of a record hold which part, and which are options, by their letters."""

    names: dict[str, tuple[Any, ...]]
    parts: frozenset[str]
    options: dict[str, Any]

    @classmethod
    def of(cls, record: Iterable[Any], asked: tuple[str, str]) -> "ColumnLayout":
        """The layout of a record with these columns."""
        names: dict[str, tuple[Any, ...]] = {}
        for name in record:
            part = part_of(name)
            if part and name not in asked:
                names[part] = (*names.get(part, ()), name)
        options = _options(names) if "option" in names else {}
        chosen = (part for part, name in zip(("question", "answer"), asked, strict=True) if name)
        return cls(names, frozenset((*names, *chosen, *["option"] * bool(options))), options)


def _options(names: dict[str, tuple[Any, ...]]) -> dict[str, Any]:
    """The columns of options by their letters, taken from the other parts: two and an answer, or more."""
    candidates = [*names.pop("option"), *names.get("answerer", ())]
    found = {letter[1]: name for name in candidates if (letter := OPTION.fullmatch(canonical(name)))}
    if not {"a", "b"} <= found.keys() or (len(found) == 2 and "answer" not in names):
        return {}
    others = tuple(name for name in names.pop("answerer", ()) if name not in found.values())
    if others:
        names["answerer"] = others
    return dict(sorted(found.items()))


_layout_of = lru_cache(64)(ColumnLayout.of)  # the records of a file have few different layouts


class Columns:
    """The values of a record by what they hold; `asked` are the columns named for prompt and response."""

    def __init__(self, record: Mapping[Any, Any], asked: tuple[str, str] = ("", "")) -> None:
        for name in filter(None, asked):
            if name not in record:
                raise RefusedError("column_missing", name)
        self._record = record
        self._asked = {part: name for part, name in zip(("question", "answer"), asked, strict=True) if name}
        columns = tuple(record)
        short = sum(map(len, map(str, columns))) < LONGEST_LAYOUT
        self._names, self.parts, self._options = (_layout_of if short else ColumnLayout.of)(columns, asked)
        self.used: set[Any] = set()
        self._chosen: dict[str, Any] = {}  # cached column names
        self._filled: dict[str, bool] = {}

    def options(self) -> list[tuple[str, Any]]:
        """The options of a question that have their own columns, by their letters."""
        if not self._options:
            return []
        self.used |= set(self._options.values())
        return [(letter.upper(), self._record[name]) for letter, name in self._options.items()]

    def name(self, part: str) -> Any:
        """The name of a part's column, the first with content; None if there is no such column.

        Raises RefusedError if two have different contents: a person must say which of them is meant.
        """
        if part not in self._chosen:
            self._chosen[part] = self._choice(part)
        return self._chosen[part]

    def _choice(self, part: str) -> Any:
        if part in self._asked:
            return self._asked[part]
        found = self._names.get(part)
        if found is None:
            return None
        if len(found) == 1:
            return found[0]
        filled = [name for name in found if not blank(self._record[name])]
        if len(filled) > 1:
            self._require_one(filled)
        return (filled or found)[0]

    def _require_one(self, names: list[Any]) -> None:
        if any(self._record[name] != self._record[names[0]] for name in names[1:]):
            raise RefusedError("columns_ambiguous", ", ".join(map(str, names)))

    def has(self, part: str) -> bool:
        """Whether a part has a column with content, which must be a list for parts that are lists."""
        if part not in self.parts:
            return False
        filled = self._filled.get(part)
        if filled is None:
            filled = self._filled[part] = self._is_filled(part)
        return filled

    def _is_filled(self, part: str) -> bool:
        name = self.name(part)
        if blank(self._record[name]):
            return False
        return part not in LISTS or listlike(self._record[name])

    def get(self, part: str) -> Any:
        """The value of a part; None if there is none."""
        name = self.name(part)
        if name is None:
            return None
        self.used.add(name)
        return self._record[name]

    def first(self, *parts: str) -> str:
        """The first of these parts whose column has content, else the first that has a column, else the first."""
        for there in (self.has, self.parts.__contains__):
            for part in parts:
                if there(part):
                    return part
        return parts[0]

    def beyond_text(self) -> None:
        """Raises RefusedError if the record has content other than text."""
        for name in self._names.get("beyond_text", ()):
            if not blank(self._record[name]):
                raise RefusedError("column_beyond_text", str(name))

    def listed(self) -> str:
        """The names of all columns, for people."""
        return ", ".join(map(str, self._record))

    def unused(self) -> list[str]:
        """The columns with content that were not used."""
        return [str(name) for name, value in self._record.items() if name not in self.used and not blank(value)]
