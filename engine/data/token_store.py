"""The rows of a data file as token ids: every rank reads a step's rows from the same files, and holds none in memory.

The ids are kept whole and cut at `max_seq_len` (the end token included) when they are read, so that another length
needs no new store. The store is named after the contents of file and tokenizer: a change of either makes a new one.
For a file that records where turns begin in its prompts there is one store per length: longer prompts lose their oldest
turns before they are tokenized.
"""

import contextlib
import hashlib
import os
import shutil
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from engine.contract.bounds import read_as
from engine.contract.durable import read_json
from engine.contract.facts import ChatFacts
from engine.contract.messages import InputError, Message
from engine.contract.reasons import counted
from engine.data.batching import Ids, Lengths
from engine.data.chat.templates import ChatTemplate
from engine.data.chat_building import build_chat_store
from engine.data.fingerprints import fingerprint, tokenizer_sha256
from engine.data.parquet_rows import RowSource
from engine.data.store_building import build_store
from engine.data.store_files import META, DamagedError, Numbers, remove, require_sound

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

COUNTED_ROWS = 1 << 18  # rows whose lengths are held at once, 8 bytes each
FORMAT = 8
Part = Literal["prompt", "label"]
Progress = Callable[[int, int], None]


def _silent(_done: int, _total: int) -> None:
    """A progress callback that does nothing."""


@dataclass(frozen=True)
class Row:
    """The token ids of a row, and those of them that are learned: (start, end) of each span, in order."""

    ids: Ids
    spans: tuple[tuple[int, int], ...]

    @property
    def prompt(self) -> Ids:
        """A view of what comes before the last span, end token included."""
        return self.ids[: self.spans[-1][0]]

    @property
    def label(self) -> Ids:
        """A view of the last span, end token included."""
        start, end = self.spans[-1]
        return self.ids[start:end]


class TokenStore:
    """The rows of one data file as token ids with learned spans.

    A row whose only span is its end is a prompt and its label, and each of the two is cut at `limit` tokens. Rows of
    several spans were made for the limit, and are read as they are.
    """

    def __init__(self, folder: Path, limit: int, damage: DamagedError | None = None) -> None:
        self.folder, self.limit = folder, limit
        self.damage = damage  # the reason why the store was rebuilt, if it was
        self.meta = read_json(folder / META)
        self._ids = Numbers(folder / "ids", self.meta["dtype"])
        self._ends, self._spans, self._rows = (Numbers(folder / name) for name in ("ends", "spans", "rows"))
        self._hashes = Numbers(folder / "hashes", np.uint64)
        self._answers = Numbers(folder / "answers")

    def __len__(self) -> int:
        return self._rows.count

    @property
    def bytes(self) -> int:
        """The size of its files on disk."""
        return sum(int(file["bytes"]) for file in self.meta["files"].values())

    @property
    def stops(self) -> list[int]:
        """The tokens that end answers of conversations; none of prompts and labels."""
        return list(self.meta.get("stop_ids", []))

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """Row numbers in the Parquet file, from 0, of all samples, memory-mapped."""
        return self._rows.mapped()

    @property
    def hashes(self) -> npt.NDArray[np.uint64]:
        """Hashes of prompt and response together, of all samples, memory-mapped."""
        return self._hashes.mapped()

    def row_number(self, index: int) -> int:
        """The row number in the Parquet file of one sample."""
        return self._rows.one(index)

    def answer(self, index: int) -> int:
        """The message of a conversation that the last span of one sample is; -1 for a prompt and its label."""
        return self._answers.one(index) if self._answers.count else -1

    def row(self, index: int) -> Row:
        """One sample, cut at the limit."""
        (start, learned_before), (end, learned) = self._ends_between(index, index + 1).tolist()
        middle = end - (learned - learned_before)
        listed = self._listed_spans(start, end) if self._spans.count else ()
        if listed or middle == end:
            return Row(self._ids.part(start, end).astype(np.int64), listed)
        if max(middle - start, end - middle) <= self.limit:
            return Row(self._ids.part(start, end).astype(np.int64), ((middle - start, end - start),))
        prompt, label = self._cut(start, middle), self._cut(middle, end)
        return Row(np.concatenate((prompt, label)), ((len(prompt), len(prompt) + len(label)),))

    def rows_at(self, indices: Sequence[int]) -> list[Row]:
        """Some samples, cut at the limit."""
        return [self.row(index) for index in indices]

    def prompt(self, index: int) -> Ids:
        """Token ids of a prompt, end token included."""
        return self.row(index).prompt

    def label(self, index: int) -> Ids:
        """Token ids of a response, end token included."""
        return self.row(index).label

    def _cut(self, start: int, end: int) -> Ids:
        """The ids from `start` to `end`, at most `limit` of them, the last of which is kept."""
        ids = self._ids.part(start, min(end, start + self.limit)).astype(np.int64)
        if end - start > self.limit:
            ids[-1] = self._ids.one(end - 1)
        return ids

    def _ends_between(self, start: int, end: int) -> Ids:
        """How many ids, and how many learned ids, are in all rows before each from `start` to `end`."""
        found = self._ends.part(2 * max(0, start - 1), 2 * end).reshape(-1, 2)
        return found if start else np.concatenate((np.zeros((1, 2), dtype=np.int64), found))

    def _listed_spans(self, start: int, end: int) -> tuple[tuple[int, int], ...]:
        """The spans in the file of the row whose ids go from `start` to `end`, as positions in the row."""
        places = range(self._spans.count // 2)

        def at(place: int) -> int:
            return self._spans.one(2 * place)

        first = bisect_left(places, start, key=at)
        last = bisect_left(places, end, lo=first, key=at)
        found = self._spans.part(2 * first, 2 * last).reshape(-1, 2) - start
        return tuple((int(begin), int(stop)) for begin, stop in found)

    def lengths(self, indices: Sequence[int]) -> Lengths:
        """Lengths in tokens of some samples, cut at the limit."""
        if isinstance(indices, range) and indices.step == 1:
            found = self._whole(indices.start, indices.stop)
        else:
            ends = np.array([self._ends_between(int(index), int(index) + 1) for index in indices]).reshape(-1, 2, 2)
            found = _lengths(ends[:, 1] - ends[:, 0])
        return Lengths(np.minimum(found.prompt, self.limit), np.minimum(found.label, self.limit))

    def whole_lengths(self) -> Lengths:
        """Uncut lengths in tokens of all samples."""
        return self._whole(0, len(self))

    def _whole(self, start: int, end: int) -> Lengths:
        """Uncut lengths of the samples from `start` to `end`, read a part at a time."""
        found = Lengths(np.empty(end - start, dtype=np.int64), np.empty(end - start, dtype=np.int64))
        for first in range(start, end, COUNTED_ROWS):
            part = _lengths(np.diff(self._ends_between(first, min(first + COUNTED_ROWS, end)), axis=0))
            place = slice(first - start, first - start + len(part.label))
            found.prompt[place], found.label[place] = part.prompt, part.label
        return found

    def start(self, part: Part, index: int) -> int:
        """Tokens of that part before this sample, uncut."""
        ids, learned = (int(number) for number in self._ends_between(index, index)[0])
        return learned if part == "label" else ids - learned

    def tokens(self, part: Part) -> int:
        """Tokens of that part of all samples, uncut."""
        return self.start(part, len(self))

    def longest(self) -> dict[str, int]:
        """Uncut lengths in tokens of the longest prompt, the longest label, and the longest row."""
        lengths = self.whole_lengths()
        parts = {"prompt": lengths.prompt, "label": lengths.label, "row": lengths.total}
        return {name: int(part.max(initial=0)) for name, part in parts.items()}

    def cuts(self) -> dict[str, int]:
        """Rows and tokens cut by the limit, and the number of tokens in total."""
        cut_rows, cut = 0, {"prompt": 0, "label": 0}
        for start in range(0, len(self), COUNTED_ROWS):
            lengths = self._whole(start, min(start + COUNTED_ROWS, len(self)))
            over = {
                "prompt": np.maximum(lengths.prompt - self.limit, 0),
                "label": np.maximum(lengths.label - self.limit, 0),
            }
            cut_rows += int(np.count_nonzero(over["prompt"] + over["label"]))
            for part, count in over.items():
                cut[part] += int(count.sum())
        return {
            "cut_rows": cut_rows,
            "cut_tokens": cut["prompt"] + cut["label"],
            "tokens": self.tokens("prompt") + self.tokens("label"),
            "limit": self.limit,
            "cut_label_tokens": cut["label"],
            "label_tokens": self.tokens("label"),
        }

    def notices(self, path: Path) -> list[Message]:
        """What was left out when the rows were tokenized, and what is cut from them."""
        meta, notes = self.meta, []
        if self.damage is not None:
            notes.append(Message.of("token_store_again", path=str(self.damage.path), why=self.damage.why))
        shown = {"path": str(path), "rows": meta["rows"]}
        if meta["turns_rows"]:
            left_out = {name: meta[name] for name in ("turns_rows", "turns_left_out")}
            notes.append(Message.of("turns_left_out", limit=self.limit, **shown, **left_out))
        if meta["dropped"]:
            count, why = sum(meta["dropped"].values()), counted(meta["dropped"])
            first = meta["first_dropped"]
            notes.append(Message.of("rows_dropped", dropped=count, first=first, reasons=why, **shown))
        notes += self._chat_notices(path)
        cuts = self.cuts()
        if cuts["cut_rows"]:
            counts = {name: cuts[name] for name in ("cut_rows", "cut_tokens", "tokens", "limit")}
            notes.append(Message.of("rows_truncated", **shown, **counts))
        return notes

    def _chat_notices(self, path: Path) -> list[Message]:
        """What became of conversations."""
        if "chat" not in self.meta:
            return []
        chat, shown = read_as(ChatFacts, self.meta["chat"]), {"path": str(path)}
        counts = {"conversations": chat.conversations, "answers": chat.answers, "samples": len(self)}
        notes = [Message.of("chats", stops=", ".join(chat.stops), **shown, **counts)]
        if self.meta["chatml_as_text"]:
            notes.append(Message.of("chatml_as_text", **shown))
        if self.meta["dated"]:
            notes.append(Message.of("template_dated", date=self.meta["dated"], **shown))
        if chat.split:
            notes.append(Message.of("chats_split", split=chat.split, conversations=chat.conversations, **shown))
        if chat.too_long:
            notes.append(Message.of("answers_left_out", left_out=chat.too_long, limit=self.limit, **shown))
        if chat.unwritten:
            notes.append(Message.of("chats_unwritten", reasons=counted(chat.unwritten), **shown))
        if chat.open:
            notes.append(Message.of("chats_open", open=chat.open, conversations=chat.conversations, **shown))
        return notes


def _lengths(counts: Ids) -> Lengths:
    """The lengths of rows by their ids and learned ids, (rows, 2)."""
    return Lengths(counts[:, 0] - counts[:, 1], counts[:, 1])


def open_store(
    source: RowSource,
    tokenizer: "PreTrainedTokenizerBase",
    max_len: int,
    root: Path,
    progress: Progress,
    looking: Progress = _silent,
) -> TokenStore:
    """The store of `source`, created if it does not exist yet or is damaged; raises InputError.

    `progress` is called with rows done and rows in total while it is created, `looking` with megabytes while an
    existing one is checked.
    """
    folder = store_path(source, tokenizer, max_len, root)
    damage = _damage(folder, tokenizer, looking)
    if damage is not None:
        _remove_damaged(folder, damage)
    if not folder.exists():
        with contextlib.closing(source.open()) as file:
            for_length = source.chat is not None or source.has_turns(file)
            folder = _named(source, tokenizer, root, max_len if for_length else None)
        staged = folder.with_name(f".tmp-{folder.name}-{os.getpid()}")
        try:
            root.mkdir(parents=True, exist_ok=True)
            staged.mkdir()
            build = build_store if source.chat is None else build_chat_store
            build(source, tokenizer, max_len, staged, progress)
            with contextlib.suppress(OSError):  # another process was first: its store is the same
                staged.rename(folder)
        except OSError as error:
            why = error.strerror or str(error)
            raise InputError("folder_unwritable", path=str(root), why=why, setting="token_store") from None
        finally:
            shutil.rmtree(staged, ignore_errors=True)
            _remove_if_empty(root)
    return TokenStore(folder, max_len, damage)


def reopened(source: RowSource, tokenizer: "PreTrainedTokenizerBase", max_len: int, root: Path) -> TokenStore:
    """The store that another rank of this machine has just opened, without checking it again."""
    return TokenStore(store_path(source, tokenizer, max_len, root), max_len)


def _damage(folder: Path, tokenizer: "PreTrainedTokenizerBase", looking: Progress) -> DamagedError | None:
    """What is wrong with an existing store; None if nothing is, or if there is no store."""
    from engine.data.tokenizer import tokens_needed  # transformers, which the tokenizer's owner has imported already

    if not os.path.lexists(folder):
        return None
    try:
        require_sound(folder, tokens_needed(tokenizer), looking)
    except DamagedError as error:
        return error
    return None


def _remove_damaged(folder: Path, damage: DamagedError) -> None:
    try:
        remove(folder)
    except OSError as error:
        why = f"{damage.why}; {error.strerror or error}"
        raise InputError("token_store_bad", path=str(damage.path), folder=str(folder), why=why) from None


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def is_stored(source: RowSource, tokenizer: "PreTrainedTokenizerBase", max_len: int, root: Path) -> bool:
    """Whether the store of `source` exists, which is never so for a broken file."""
    return (store_path(source, tokenizer, max_len, root) / META).is_file()


def store_path(source: RowSource, tokenizer: "PreTrainedTokenizerBase", max_len: int, root: Path) -> Path:
    """The folder of the store of this content: the one for all lengths, or else the one for this length.

    Which of the two a file has is known without opening it: the file's content decides it, and is part of both names.
    """
    for_all = _named(source, tokenizer, root, None)
    return for_all if os.path.lexists(for_all) else _named(source, tokenizer, root, max_len)


def _named(source: RowSource, tokenizer: "PreTrainedTokenizerBase", root: Path, max_len: int | None) -> Path:
    parts = (
        FORMAT,
        fingerprint(source.path, root),
        source.prompt_column,
        source.response_column,
        source.messages_column,
        tokenizer_sha256(tokenizer),
        max_len,
        _chat_identity(source, tokenizer),
    )
    name = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
    return root / f"{source.path.stem}-{name}"


def _chat_identity(source: RowSource, tokenizer: "PreTrainedTokenizerBase") -> tuple[object, ...]:
    """What decides which rows conversations become; empty for prompts and labels."""
    chat = source.chat
    if chat is None:
        return ()
    template = ChatTemplate.of(tokenizer, chat.template, chat.options).identity
    return (template, chat.learn, chat.too_long, chat.stops)
