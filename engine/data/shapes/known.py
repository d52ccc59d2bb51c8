"""The known shapes of records, one entry each: the columns it reads, and how it makes conversations from a record."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import chain
from typing import Any

from engine.data.shapes.account import RefusedError
from engine.data.shapes.choices import options_of
from engine.data.shapes.columns import Columns, blank, canonical, listlike
from engine.data.shapes.conversation import Conversation, Row, Turn, turns_column
from engine.data.shapes.moss import moss_turns
from engine.data.shapes.tools import tools_of
from engine.data.shapes.turns import is_turns, listed, turns_of
from engine.data.shapes.values import SURROGATE, text_of

PLAIN = frozenset(("question", "answer"))
FALSE = ("false", "0", "0.0")
PROMPT_PARTS = ("instruction", "question", "input", "context")  # in the order in which they appear in a prompt
Notices = list[str]
Reader = Callable[[Columns, Notices], Iterator[Conversation]]


@dataclass(frozen=True)
class RecordShape:
    """A shape, with its name in accounts and documents.

    Its records have content in a column of each of `needs` (keys of NAMES; `a|b` if one of several suffices).
    `example` is an abbreviated record.
    """

    name: str
    needs: tuple[str, ...]
    conversations: Reader
    example: str

    @cached_property
    def any_of(self) -> tuple[tuple[str, ...], ...]:
        """The alternatives for each needed part, of which one is required."""
        return tuple(tuple(parts.split("|")) for parts in self.needs)


@dataclass
class Shaped:
    """The result for a record: conversations, codes about what they lack, and the names of unread columns."""

    shape: str
    conversations: list[Conversation]
    notices: Notices
    unused: list[str]

    def pairs(self, history: int | None = None) -> list[Row]:
        """A row for each answer, with at most `history` earlier turns in its prompt; raises RefusedError."""
        return [row for conversation in self.conversations for row in conversation.rows(history)]

    @property
    def pair_notices(self) -> Notices:
        """What is left out of its pairs in addition."""
        return [code for conversation in self.conversations for code in conversation.pair_notices]


def shaped(record: Any, asked: tuple[str, str] = ("", "")) -> Shaped:
    """The conversations of a record, `asked` being the columns named for prompt and response; raises RefusedError."""
    if isinstance(record, RefusedError):
        raise record
    if not isinstance(record, Mapping):
        raise RefusedError("not_object")
    columns = Columns(record, asked)
    plain = _plain(columns)
    if plain:
        return plain
    notices: Notices = []
    columns.beyond_text()
    shape = PAIR if any(asked) else _shape_of(columns)
    tools = tools_of(columns.get("tools"), str(columns.name("tools"))) if columns.has("tools") else ""
    made = list(shape.conversations(columns, notices))
    if not made:
        raise RefusedError("no_answer")
    for conversation in made:
        conversation.tools, conversation.whole = tools, conversation.whole or bool(tools)
        notices += conversation.notices
    name = _pair_name(columns) if shape is PAIR else shape.name
    return Shaped(name, made, notices, columns.unused())


def _plain(columns: Columns) -> Shaped | None:
    """The most common kind of record, in half the time: a text as question, one as answer, and nothing else to read."""
    if columns.parts != PLAIN:
        return None
    question, answer = columns.get("question"), columns.get("answer")
    for text in (question, answer):
        if not isinstance(text, str) or blank(text) or SURROGATE.search(text):
            return None
    return Shaped(_pair_name(columns), [Conversation.of_pair(question, answer)], [], columns.unused())


def _shape_of(columns: Columns) -> RecordShape:
    """The first shape whose columns have content, else the first whose columns exist."""
    possible = _possible(columns.parts)
    for shape in possible:
        if all(any(map(columns.has, parts)) for parts in shape.any_of):
            return shape
    if possible:
        return possible[0]
    if "tree" in columns.parts:
        raise RefusedError("message_tree", str(columns.name("tree")))
    raise RefusedError("no_known_columns", columns.listed()) if columns.listed() else RefusedError("record_empty")


@lru_cache(256)
def _possible(there: frozenset[str]) -> tuple["RecordShape", ...]:
    """The shapes possible for a record with columns for these parts, which differ little among a file's records."""
    return tuple(shape for shape in SHAPES if all(there.intersection(parts) for parts in shape.any_of))


def shape_names() -> list[str]:
    """The names of all shapes."""
    return list(dict.fromkeys(shape.name for shape in SHAPES))


def suggested(names: Sequence[str]) -> dict[str, str | int]:
    """Advice for a file with these columns, none of which is the requested one.

    `importable` is 1 if an import knows its shape; `prompt_column` and `response_column` are present if two of the
    columns are all that the shape reads, so that they can be named instead.
    """
    columns = Columns({name: [name] for name in names})
    try:
        shape = _shape_of(columns)
        if shape is not PAIR:
            return {"importable": 1}
        parts = [part for part in ("system", "history", *PROMPT_PARTS, "choices") if columns.has(part)]
        asking, answering = columns.first(*PROMPT_PARTS, "asker"), columns.first("answer", "answerer")
    except RefusedError:
        return {"importable": 0}
    if parts not in ([asking], []) or columns.options():
        return {"importable": 1}
    return {"importable": 1, "prompt_column": columns.name(asking), "response_column": columns.name(answering)}


# --- how each shape makes conversations


def _turns_in(part: str) -> Reader:
    """Reads the turns in a part's column, preceded by the system text of a separate column."""

    def read(columns: Columns, notices: Notices) -> Iterator[Conversation]:
        _require_wanted(columns, feedback="label" in columns.parts and isinstance(columns.get("label"), bool))
        turns = turns_of(columns.get(part), str(columns.name(part)), notices)
        yield Conversation.of(chain(_system(columns, notices), turns), whole=True)

    return read


def _moss(columns: Columns, notices: Notices) -> Iterator[Conversation]:
    """The turns of MOSS, or of a list in a column of the same name, preceded by the system text."""
    value, name = columns.get("chat"), str(columns.name("chat"))
    turns = turns_of(value, name, notices) if listlike(value) else moss_turns(value, name, notices)
    yield Conversation.of(chain(_system(columns, notices), turns), whole=True)


def _pair(columns: Columns, notices: Notices) -> Iterator[Conversation]:
    """A question, assembled from its parts, and its answer; either may be a list of turns."""
    if columns.has("prompt_turns") and columns.name("prompt_turns") == turns_column(str(columns.name("question"))):
        yield _of_import(columns, notices)
        return
    _require_wanted(columns, feedback=canonical(columns.name("answer")) == "completion")
    answer = columns.get(columns.first("answer", "answerer"))
    asked = columns.get("question")
    turns = list(chain(_system(columns, notices), _history(columns, notices)))
    if is_turns(answer):
        answered = list(turns_of(answer, "answer", notices))
        if answered and answered[0].role != "assistant":  # it contains the question, as in preference pairs
            yield Conversation.of(turns + answered, whole=True)
            return
    else:
        answered = [Turn("assistant", _one_text(answer, "response", notices))]
    if is_turns(asked):
        yield Conversation.of([*turns, *turns_of(asked, "question", notices), *answered], whole=True)
        return
    yield Conversation.of([*turns, Turn("user", _prompt(columns, notices)), *answered], whole=bool(turns))


def _require_wanted(columns: Columns, *, feedback: bool) -> None:
    """Raises RefusedError if the answer is marked as a bad example.

    A `label` marks that only if the record is one of `feedback`; otherwise it is a class label.
    """
    for part in ("kto_tag", "label") if feedback else ("kto_tag",):
        if part in columns.parts and str(columns.get(part)).strip().casefold() in FALSE:
            raise RefusedError("answer_unwanted", str(columns.name(part)))


def _of_import(columns: Columns, notices: Notices) -> Conversation:
    """A row of a file written by an import: only its last answer becomes a row again."""
    prompt = _one_text(columns.get("question"), "prompt", notices)
    answer = _one_text(columns.get("answer"), "response", notices)
    if not answer.strip():
        raise RefusedError("response_empty")
    starts = listed(columns.get("prompt_turns"), str(columns.name("prompt_turns")))
    try:
        return Conversation.of_pair(prompt, answer, starts)
    except (TypeError, ValueError):
        raise RefusedError("turns_elsewhere", str(columns.name("prompt_turns"))) from None


def _prompt(columns: Columns, notices: Notices) -> str:
    """The parts of a question, each on its own lines; raises RefusedError if there is none."""
    values = [columns.get(part) for part in PROMPT_PARTS if columns.has(part)]
    if not values and columns.has("asker"):
        values = [columns.get("asker")]
    if not values:
        empty = any(isinstance(columns.get(part), str) for part in (*PROMPT_PARTS, "asker"))
        raise RefusedError("prompt_empty" if empty else "prompt_null")
    return "\n".join([*(_texts(value, "prompt", notices) for value in values), *options_of(columns, notices)])


def _texts(value: Any, what: str, notices: Notices) -> str:
    """The text of a value, or of a list of texts, one per line."""
    if isinstance(value, list | tuple):
        return "\n".join(text_of(item, what, notices) or "" for item in value)
    return text_of(value, what, notices) or ""


def _one_text(value: Any, what: str, notices: Notices) -> str:
    """The text of a value, or of a list with exactly one item; raises RefusedError."""
    if isinstance(value, list | tuple):
        if len(value) != 1:
            raise RefusedError(f"{what}_not_text", f"list of {len(value)}")
        value = value[0]
    text = text_of(value, what, notices)
    if text is None:
        raise RefusedError(f"{what}_null")
    return text


def _system(columns: Columns, notices: Notices) -> Iterator[Turn]:
    if columns.has("system"):
        yield Turn("system", _texts(columns.get("system"), "prompt", notices))


def _history(columns: Columns, notices: Notices) -> Iterator[Turn]:
    if columns.has("history"):
        yield from turns_of(columns.get("history"), str(columns.name("history")), notices)


def _answered_from_context(columns: Columns, notices: Notices) -> Iterator[Conversation]:
    """A question about a text, and the first of its answers, as in SQuAD."""
    answers = _answers(columns.get("answers"), notices)
    if answers:
        turns = [Turn("user", _prompt(columns, notices)), Turn("assistant", answers[0])]
        yield Conversation.of(chain(_system(columns, notices), turns))


def _answers(value: Any, notices: Notices) -> list[str]:
    """The texts of `{"text": [...]}`, of a list of texts or of `{"text": ...}`; adds a notice if there are several."""
    if isinstance(value, Mapping):
        value = value.get("text")
    items = value if isinstance(value, list | tuple) else [value]
    texts = [text_of(item.get("text") if isinstance(item, Mapping) else item, "response", notices) for item in items]
    found = list(dict.fromkeys(text for text in texts if text and text.strip()))
    notices += ["answers_further"] * (len(found) > 1)
    return found


def _paragraphs(columns: Columns, notices: Notices) -> Iterator[Conversation]:
    """All questions of an article, as in SQuAD's own files."""
    for paragraph in _objects(columns, "paragraphs"):
        about = Columns(paragraph)
        for asked in _listed_objects(paragraph.get("qas"), "qas"):
            merged = Columns({**{name: value for name, value in paragraph.items() if name != "qas"}, **asked})
            made = list(_answered_from_context(merged, notices)) if about.has("context") else []
            notices += ["question_unanswered"] * (not made)
            yield from made


def _objects(columns: Columns, part: str) -> list[Mapping[str, Any]]:
    return _listed_objects(columns.get(part), part)


def _listed_objects(value: Any, name: str) -> list[Mapping[str, Any]]:
    items = listed(value, name)
    if not all(isinstance(item, Mapping) for item in items):
        raise RefusedError("column_not_list", name)
    return items


def _pair_name(columns: Columns) -> str:
    """The columns of a pair, by their names in the record."""
    asking, answering = columns.first(*PROMPT_PARTS, "asker"), columns.first("answer", "answerer")
    return f"{columns.name(asking)}/{columns.name(answering)}"


PAIR = RecordShape(
    "prompt/response", ("question|input|context|asker", "answer|answerer"), _pair, '{"prompt": "…", "response": "…"}'
)
SHAPES = (
    RecordShape("messages", ("messages",), _turns_in("messages"),
          '{"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}'),
    RecordShape("sharegpt", ("conversations",), _turns_in("conversations"),
          '{"conversations": [{"from": "human", "value": "…"}, {"from": "gpt", "value": "…"}]}'),
    RecordShape("conversation", ("conversation",), _turns_in("conversation"),
          '{"conversation": [{"human": "…", "assistant": "…"}]}'),
    RecordShape("contents", ("contents",), _turns_in("contents"),
          '{"contents": [{"role": "user", "parts": [{"text": "…"}]}, …]}'),
    RecordShape("squad", ("question", "context", "answers"), _answered_from_context,
          '{"context": "…", "question": "…", "answers": {"text": ["…"]}}'),
    RecordShape("squad", ("paragraphs",), _paragraphs, '{"paragraphs": [{"context": "…", "qas": […]}]}'),
    RecordShape("dolly", ("instruction", "context", "answer"), _pair,
          '{"instruction": "…", "context": "…", "response": "…"}'),
    RecordShape("alpaca", ("instruction", "answer"), _pair,
          '{"instruction": "…", "input": "…", "output": "…", "system": "…", "history": [["…", "…"]]}'),
    PAIR,
    RecordShape("moss", ("chat",), _moss, '{"chat": {"turn_1": {"Human": "…", "MOSS": "…"}}}'),
    RecordShape("ultrachat", ("data",), _turns_in("data"), '{"data": ["…", "…"]}'),
)  # fmt: skip
