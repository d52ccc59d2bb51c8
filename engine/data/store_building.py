"""Tokenizes the rows of a data file into a new store, in batches; rows without prompt or response are left out."""

import contextlib
import gc
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from engine.contract.messages import InputError
from engine.data import encoding
from engine.data.bounded import Worker, in_time, one_ahead
from engine.data.parquet_rows import RowSource
from engine.data.shorten import Prompt, Shortening
from engine.data.store_files import NewRows, StoreWriter
from engine.data.text_checks import TextBatch, TextTally, row_hashes

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Progress = Callable[[int, int], None]


def build_store(
    source: RowSource, tokenizer: "PreTrainedTokenizerBase", max_len: int, folder: Path, progress: Progress
) -> None:
    """Tokenizes the usable rows of `source` into the files of a new store; raises InputError or OSError."""
    file = source.open()
    seen, total = 0, file.metadata.num_rows
    kind = ""
    texts, turns, unk, unknown = TextTally(), Shortening(source, max_len), tokenizer.unk_token_id, 0

    def waiting() -> None:
        progress(seen, total)

    with StoreWriter(folder) as out, garbage_collection_paused():
        for batch, hashes, found in _tokenized(_usable(source.batches(file), texts), tokenizer, turns, waiting):
            seen = batch.seen
            kind = kind or id_kind(tokenizer)  # computed here, while the tokenizer is busy
            parts = [
                part for pair in zip(found[: len(batch.pairs)], found[len(batch.pairs) :], strict=True) for part in pair
            ]
            ids = joined_ids(parts, kind, tokenizer)
            unknown += 0 if unk is None else int(np.count_nonzero(ids == unk))
            labels = np.cumsum([len(part) for part in parts], dtype=np.int64).reshape(-1, 2)
            out.append(NewRows(ids, labels[:, 1], labels, np.array(batch.rows, dtype=np.int64), hashes))
            progress(seen, total)
        texts.require_rows(source.path, source.prompt_column, source.response_column)
        out.seal({"dtype": np.dtype(kind).name, "unknown_tokens": unknown, **turns.to_json(), **texts.to_json()})


def id_kind(tokenizer: "PreTrainedTokenizerBase") -> str:
    """The type code, for array and numpy, of the shortest number that holds every token: 16 or 32 bits."""
    return "H" if max(tokenizer.get_vocab().values()) < 1 << 16 else "I"


def joined_ids(parts: Iterable[list[int]], kind: str, tokenizer: "PreTrainedTokenizerBase") -> npt.NDArray[Any]:
    """The ids of all parts, one after another, as numbers of that kind; raises InputError."""
    try:
        # An array takes a list's numbers three times as fast as numpy takes an iterator's.
        return np.frombuffer(b"".join(array(kind, part) for part in parts), dtype=kind)
    except OverflowError as error:  # a token beyond its own vocabulary
        raise InputError("tokenizer_bad", path=str(tokenizer.name_or_path), why=str(error)) from None


@contextlib.contextmanager
def garbage_collection_paused() -> Iterator[None]:
    """Pauses the search for reference cycles, which many new objects trigger: one list per text, and no cycles."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@dataclass(frozen=True)
class _Batch:
    """Usable rows, with their numbers in the file, and how many rows were seen up to the last of them."""

    rows: list[int]
    pairs: list[tuple[str, str]]
    seen: int
    starts: list[Sequence[int] | None]

    def texts(self) -> list[str]:
        """All prompts, and then all labels."""
        return [prompt for prompt, _ in self.pairs] + [label for _, label in self.pairs]

    def conversations(self) -> dict[int, Prompt]:
        """The prompts whose turns the file records, by their places in this batch."""
        return {at: Prompt(self.pairs[at][0], starts) for at, starts in enumerate(self.starts) if starts}


def _usable(batches: Iterator[TextBatch], texts: TextTally) -> Iterator[_Batch]:
    for batch in batches:
        kept = texts.count(batch)
        pairs = [(str(batch.prompts[i]), str(batch.responses[i])) for i in kept]
        seen = batch.numbers[-1] + 1 if batch.numbers else 0
        yield _Batch([batch.numbers[i] for i in kept], pairs, seen, [batch.starts[i] for i in kept])


def _tokenized(
    batches: Iterator[_Batch],
    tokenizer: "PreTrainedTokenizerBase",
    turns: Shortening,
    waiting: Callable[[], None],
) -> Iterator[tuple[_Batch, npt.NDArray[np.uint64], list[list[int]]]]:
    """Each batch with its rows' hashes, and the ids of all its prompts followed by those of all its labels.

    While the tokenizer processes one batch, which does not need Python, this function hashes it, the caller handles the
    previous one, and the next is read. While waiting for the tokenizer, `waiting` is called once a second.
    """
    worker, asked = Worker("tokenizer"), 0  # characters whose ids have not been returned

    def ask(texts: list[str]) -> "Future[list[Any]]":
        nonlocal asked
        asked += sum(map(len, texts))
        return worker.submit(partial(encoding.encodings, texts, tokenizer))

    def answer(encodings: "Future[list[Any]]", texts: list[str]) -> list[list[int]]:
        nonlocal asked
        ids = encoding.ids_of(in_time(encodings, str(tokenizer.name_or_path), asked, waiting), tokenizer)
        asked -= sum(map(len, texts))
        return ids

    def again(texts: list[str]) -> list[list[int]]:  # in that thread, since not every tokenizer is reentrant
        return answer(ask(texts), texts)

    def finished(batch: _Batch, encodings: "Future[list[Any]]") -> list[list[int]]:
        ids = answer(encodings, batch.texts())
        turns.shorten(batch.rows, batch.conversations(), ids, again)
        return ids

    def started(batch: _Batch) -> "tuple[Future[list[Any]], npt.NDArray[np.uint64]]":
        return ask(batch.texts()), row_hashes(batch.pairs)

    try:
        for batch, (encodings, hashes) in one_ahead(batches, started):
            yield batch, hashes, finished(batch, encodings)
    finally:
        worker.close()
