"""Converts rows to a store of token ids: every rank reads a step's rows from the same files, and holds none in memory.

Rows are streamed one batch at a time and left out if prompt or response is empty. The ids are kept whole and cut at
`max_seq_len` (the end token included) when they are read, so that another length needs no new store. The store is
named after the contents of file and tokenizer: a change of either makes a new one. For a file that records where
turns begin in its prompts there is one store per length: longer prompts lose their oldest turns before they are
tokenized.
"""

import contextlib
import gc
import hashlib
import os
import shutil
import weakref
from array import array
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from engine.contract.durable import read_json, write_json
from engine.contract.files import open_regular
from engine.contract.messages import InputError, Message
from engine.contract.reasons import counted
from engine.data.bounded import Worker, done_in_time, in_time
from engine.data.parquet_rows import RowSource, TextBatch
from engine.data.shorten import Prompt, Shortening
from engine.data.store_files import META, DamagedError, StoreWriter, remove, require_sound
from engine.data.text_checks import TextTally, row_hashes

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

COUNTED_ROWS = 1 << 18  # rows whose lengths are held at once, 8 bytes each
FORMAT = 4
REMEMBERED_BYTES = 64 << 20  # smaller files are hashed in 0.1 s
HASHED_AT_ONCE = 4 << 20  # bytes
Ids = npt.NDArray[np.int64]
Progress = Callable[[int, int], None]


def _silent(_done: int, _total: int) -> None:
    """A progress callback that does nothing."""


class _Numbers:
    """Numbers in a file, read on demand: pages of a mapped file would count as the process's memory."""

    def __init__(self, path: Path, kind: np.dtype[Any]) -> None:
        self.kind = kind
        self._file = open_regular(path)
        weakref.finalize(self, os.close, self._file)
        self.count = os.fstat(self._file).st_size // kind.itemsize

    def part(self, start: int, end: int) -> npt.NDArray[Any]:
        """The numbers from `start` to `end`."""
        size = self.kind.itemsize
        return np.frombuffer(os.pread(self._file, (end - start) * size, start * size), self.kind)

    def one(self, place: int) -> int:
        """The number at one position."""
        return int(self.part(place, place + 1)[0])

    def mapped(self) -> npt.NDArray[Any]:
        """All of them, memory-mapped."""
        with os.fdopen(os.dup(self._file), "rb") as file:  # its path may no longer exist
            return np.memmap(file, dtype=self.kind, mode="r")


class TokenStore:
    """The token ids of one data file, cut at `limit` tokens: `prompt(i)`, `label(i)`, lengths."""

    def __init__(self, folder: Path, limit: int, damage: DamagedError | None = None) -> None:
        self.folder, self.limit = folder, limit
        self.damage = damage  # the reason why the store was rebuilt, if it was
        self.meta = read_json(folder / META)
        kind, wide = np.dtype(self.meta["dtype"]), np.dtype(np.int64)
        self._ids = {part: _Numbers(folder / f"{part}.ids", kind) for part in ("prompt", "label")}
        self._ends = {part: _Numbers(folder / f"{part}.ends", wide) for part in ("prompt", "label")}
        self._rows = _Numbers(folder / "rows", wide)
        self._hashes = _Numbers(folder / "hashes", np.dtype(np.uint64))

    def __len__(self) -> int:
        return self._rows.count

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """Row numbers in the Parquet file, from 0, of all samples, memory-mapped."""
        return self._rows.mapped()

    @property
    def hashes(self) -> npt.NDArray[np.uint64]:
        """Hashes of prompt and response together, of all samples, memory-mapped."""
        return self._hashes.mapped()

    def row(self, index: int) -> int:
        """The row number of one sample."""
        return self._rows.one(index)

    def prompt(self, index: int) -> Ids:
        """Token ids of a prompt, end token included."""
        return self._slice("prompt", index)

    def label(self, index: int) -> Ids:
        """Token ids of a response, end token included."""
        return self._slice("label", index)

    def lengths(self, part: str, indices: Sequence[int]) -> Ids:
        """Lengths in tokens of one part ("prompt" or "label") of some samples."""
        if isinstance(indices, range) and indices.step == 1:
            found = self._whole(part, indices.start, indices.stop)
        else:
            found = np.array([np.diff(self._place(part, int(index)))[0] for index in indices], dtype=np.int64)
        return np.asarray(np.minimum(found, self.limit))

    def _whole(self, part: str, start: int, end: int) -> Ids:
        """Uncut lengths of the samples from `start` to `end`."""
        ends = self._ends[part].part(max(0, start - 1), end)
        return np.diff(ends) if start else np.diff(ends, prepend=0)

    def _place(self, part: str, index: int) -> tuple[int, int]:
        """Where a sample's tokens begin and end among all tokens of that part."""
        if not index:
            return 0, self._ends[part].one(0)
        start, end = self._ends[part].part(index - 1, index + 1)
        return int(start), int(end)

    def start(self, part: str, index: int) -> int:
        """Tokens of that part before this sample, uncut."""
        return self._ends[part].one(index - 1) if index else 0

    def tokens(self, part: str) -> int:
        """Tokens of that part of all samples, uncut."""
        return self.start(part, len(self))

    def whole_lengths(self, part: str) -> Ids:
        """Uncut lengths in tokens of one part of all samples."""
        return np.diff(self._ends[part].mapped(), prepend=0)

    def longest(self) -> dict[str, int]:
        """Uncut lengths in tokens of the longest prompt and the longest label."""
        return {part: int(self.whole_lengths(part).max(initial=0)) for part in ("prompt", "label")}

    def _slice(self, part: str, index: int) -> Ids:
        start, end = self._place(part, index)
        ids = self._ids[part].part(start, min(end, start + self.limit)).astype(np.int64)
        if end - start > self.limit:
            ids[-1] = self._ids[part].one(end - 1)  # the end token is kept
        return ids

    def cuts(self) -> dict[str, int]:
        """Rows and tokens cut by the limit, and the number of tokens in total."""
        cut_rows, cut = 0, {"prompt": 0, "label": 0}
        for start in range(0, len(self), COUNTED_ROWS):
            end = min(start + COUNTED_ROWS, len(self))
            over = {part: np.maximum(self._whole(part, start, end) - self.limit, 0) for part in cut}
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
            notes.append(Message.of("rows_dropped", dropped=count, first=first, **why, **shown))
        cuts = self.cuts()
        if cuts["cut_rows"]:
            counts = {name: cuts[name] for name in ("cut_rows", "cut_tokens", "tokens", "limit")}
            notes.append(Message.of("rows_truncated", **shown, **counts))
        return notes


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
            folder = _named(source, tokenizer, root, max_len if source.has_turns(file) else None)
        staged = folder.with_name(f".tmp-{folder.name}-{os.getpid()}")
        try:
            root.mkdir(parents=True, exist_ok=True)
            staged.mkdir()
            _build(source, tokenizer, max_len, staged, progress)
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
        tokenizer_sha256(tokenizer),
        max_len,
    )
    name = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
    return root / f"{source.path.stem}-{name}"


def fingerprint(path: Path, root: Path, progress: Progress = _silent) -> str:
    """The hash of a data file's content; for a large file it is cached in the folder `root` until the file changes.

    Writing to a file updates its change time, which programs cannot set back. `progress` is called with megabytes done
    and megabytes in total.
    """
    status = path.stat()
    if status.st_size < REMEMBERED_BYTES:
        return file_sha256(path)
    place = hashlib.sha256(str(path.absolute()).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    note = root / f"fingerprint-{place}.json"
    now = [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    noted = read_json(note)
    if noted.get("status") == now and isinstance(noted.get("sha256"), str):
        return str(noted["sha256"])
    found = file_sha256(path, progress)
    with contextlib.suppress(OSError):
        root.mkdir(parents=True, exist_ok=True)
        write_json(note, {"status": now, "sha256": found})
    return found


def file_sha256(path: Path, progress: Progress = _silent) -> str:
    """The hash of a file's content; `progress` is called with megabytes done and megabytes in total."""
    digest, done = hashlib.sha256(), 0
    with path.open("rb") as file:
        total = os.fstat(file.fileno()).st_size
        while data := file.read(HASHED_AT_ONCE):
            digest.update(data)
            done += len(data)
            progress(done // 1_000_000, total // 1_000_000)
    return digest.hexdigest()


def tokenizer_sha256(tokenizer: "PreTrainedTokenizerBase") -> str:
    """A hash of the tokenizer's behaviour: of its whole serialized form, or of its vocabulary if it has none."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    form = backend.to_str() if backend is not None else repr(sorted(tokenizer.get_vocab().items()))
    return hashlib.sha256(form.encode("utf-8", "surrogatepass")).hexdigest()


def _build(
    source: RowSource, tokenizer: "PreTrainedTokenizerBase", max_len: int, folder: Path, progress: Progress
) -> None:
    file = source.open()
    seen, total = 0, file.metadata.num_rows
    kind, ends = "", {"prompt": 0, "label": 0}
    texts, turns, unk, unknown = TextTally(), Shortening(source, max_len), tokenizer.unk_token_id, 0

    def waiting() -> None:
        progress(seen, total)

    with StoreWriter(folder) as out, _garbage_collection_paused():
        for batch, hashes, found in _tokenized(_usable(source.batches(file), texts), tokenizer, turns, waiting):
            seen = batch.seen
            kind = kind or _id_kind(tokenizer)  # computed here, while the tokenizer is busy
            for part, rows in (("prompt", found[: len(batch.pairs)]), ("label", found[len(batch.pairs) :])):
                try:
                    # An array takes a list's numbers three times as fast as numpy takes an iterator's.
                    ids = np.frombuffer(b"".join(array(kind, row) for row in rows), dtype=kind)
                except OverflowError as error:  # a token beyond its own vocabulary
                    raise InputError("tokenizer_bad", path=str(tokenizer.name_or_path), why=str(error)) from None
                unknown += 0 if unk is None else int(np.count_nonzero(ids == unk))
                lengths = np.array([len(row) for row in rows], dtype=np.int64)
                out.append(f"{part}.ids", ids)
                out.append(f"{part}.ends", np.cumsum(lengths) + ends[part])
                ends[part] += len(ids)
            out.append("rows", np.array(batch.rows, dtype=np.int64))
            out.append("hashes", hashes)
            progress(seen, total)
        texts.require_rows(source.path, source.prompt_column, source.response_column)
        out.seal({"dtype": np.dtype(kind).name, "unknown_tokens": unknown, **turns.to_json(), **texts.to_json()})


def _id_kind(tokenizer: "PreTrainedTokenizerBase") -> str:
    """The type code, for array and numpy, of the shortest number that holds every token: 16 or 32 bits."""
    return "H" if max(tokenizer.get_vocab().values()) < 1 << 16 else "I"


@contextlib.contextmanager
def _garbage_collection_paused() -> Iterator[None]:
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
    for prompts, labels, starts in batches:
        before = texts.rows
        kept = texts.count(prompts, labels)
        pairs = [(str(prompts[i]), str(labels[i])) for i in kept]
        yield _Batch([before + i for i in kept], pairs, texts.rows, [starts[i] for i in kept])


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
        return worker.submit(partial(_encodings, texts, tokenizer))

    def answer(encodings: "Future[list[Any]]", texts: list[str]) -> list[list[int]]:
        nonlocal asked
        ids = _ids(in_time(encodings, str(tokenizer.name_or_path), asked, waiting), tokenizer)
        asked -= sum(map(len, texts))
        return ids

    def again(texts: list[str]) -> list[list[int]]:  # in that thread, since not every tokenizer is reentrant
        return answer(ask(texts), texts)

    def finished(batch: _Batch, encodings: "Future[list[Any]]") -> list[list[int]]:
        ids = answer(encodings, batch.texts())
        turns.shorten(batch.rows, batch.conversations(), ids, again)
        return ids

    try:
        before: tuple[_Batch, npt.NDArray[np.uint64], Future[list[Any]]] | None = None
        for batch in batches:
            encodings = ask(batch.texts())
            after = (batch, row_hashes(batch.pairs), encodings)
            if before is not None:
                yield before[0], before[1], finished(before[0], before[2])
            before = after
        if before is not None:
            yield before[0], before[1], finished(before[0], before[2])
    finally:
        worker.close()


def encode(texts: list[str], tokenizer: "PreTrainedTokenizerBase") -> list[list[int]]:
    """Token ids of `texts`, each ending with the end token; raises InputError if the tokenizer does not finish."""
    characters = sum(map(len, texts))
    return _ids(done_in_time(partial(_encodings, texts, tokenizer), str(tokenizer.name_or_path), characters), tokenizer)


def _encodings(texts: list[str], tokenizer: "PreTrainedTokenizerBase") -> list[Any]:
    """The tokenizer's encodings of `texts`: with a fast one, nothing of this needs Python."""
    if not texts:
        return []
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return list(tokenizer(texts, add_special_tokens=True, truncation=False, verbose=False)["input_ids"])
    # The same ids as through transformers, without masks and offsets, which take a third of its time.
    if backend.truncation or backend.padding:
        backend.no_truncation()
        backend.no_padding()
    return list(backend.encode_batch_fast(texts))


def _ids(encodings: list[Any], tokenizer: "PreTrainedTokenizerBase") -> list[list[int]]:
    """The ids of each text, with the end token added if missing: separate lists, which can grow."""
    eos = tokenizer.eos_token_id
    rows = [row if isinstance(row, list) else row.ids for row in encodings]
    for ids in rows:
        if not ids or ids[-1] != eos:
            ids.append(eos)
    return rows


def cut(ids: list[int], limit: int) -> list[int]:
    """At most `limit` of the ids, including the end token."""
    return ids if len(ids) <= limit else [*ids[: limit - 1], ids[-1]]
