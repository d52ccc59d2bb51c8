"""The files of a token store: rows of ids with learned spans, hashed when written, verified when a run opens them.

    ids     the ids of all rows, end to end; numbers of 16 or 32 bits
    ends    for each row, how many ids it and all rows before it have, and how many of them are learned
    spans   the learned spans as (start, end) among all ids, of each row whose learned ids are not simply its last ones
    rows    for each row, its number in the data file; a conversation can be several rows
    hashes  for each row, the hash of its texts
    answers for each row of a conversation, which of its messages, counted from 0, its last span is

A prompt and its label are one row with the label as its learned end, so a file of pairs has no entry in `spans` and
none in `answers`.
"""

import hashlib
import json
import os
import weakref
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
import numpy.typing as npt

from engine.contract.bounds import Count, Name, reader
from engine.contract.durable import read_json, write_json
from engine.contract.files import open_regular

META = "meta.json"
NAMES = ("ids", "ends", "spans", "rows", "hashes", "answers")
DIFFERS = "its content does not have its hash"
MISFIT = "it does not fit the other files"
REFERENCES = "references.json"  # what replies are scored against, with a separate hash
KINDS = ("uint16", "uint32")  # of token ids
READ_AT_ONCE = 4 << 20  # bytes
Ids = npt.NDArray[np.int64]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class About:
    """The recorded properties of one file as it was written."""

    bytes: Count
    sha256: Name


class DamagedError(Exception):
    """A store differs from what was written; names the affected file and the fault."""

    def __init__(self, path: Path, why: str) -> None:
        self.path, self.why = path, why
        super().__init__(f"{path}: {why}")


@dataclass(frozen=True)
class NewRows:
    """Rows to append: `ends` (rows,) and `spans` (spans, 2) are positions in `ids`, in ascending order."""

    ids: npt.NDArray[Any]
    ends: Ids
    spans: Ids
    numbers: Ids
    hashes: npt.NDArray[np.uint64]
    answers: Ids = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    def learned(self) -> tuple[Ids, npt.NDArray[np.bool_]]:
        """How many ids of each row are learned, and which of the spans are more than a learned end of their row."""
        owners = np.searchsorted(self.ends, self.spans[:, 0], side="right")
        learned = np.zeros(len(self.ends), dtype=np.int64)
        np.add.at(learned, owners, self.spans[:, 1] - self.spans[:, 0])
        alone = np.bincount(owners, minlength=len(self.ends))[owners] == 1
        return learned, ~(alone & (self.spans[:, 1] == self.ends[owners]))


class StoreWriter:
    """The files of a new store in `folder`, to which rows are appended; `seal` completes them with their hashes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, BinaryIO] = {}
        self._digests = {name: hashlib.sha256() for name in NAMES}
        self._stack = ExitStack()
        self._last = np.zeros(2, dtype=np.int64)  # of `ends`

    def __enter__(self) -> Self:
        for name in NAMES:
            self._open[name] = self._stack.enter_context((self._folder / name).open("xb"))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def append(self, rows: NewRows) -> None:
        """Appends rows; raises OSError."""
        learned, listed = rows.learned()
        ends = np.column_stack((rows.ends, np.cumsum(learned))) + self._last
        spans = rows.spans[listed] + self._last[0]
        self._last = ends[-1] if len(ends) else self._last
        for name, numbers in zip(NAMES, (rows.ids, ends, spans, rows.numbers, rows.hashes, rows.answers), strict=True):
            data = numbers.tobytes()
            self._digests[name].update(data)
            self._open[name].write(data)

    def seal(self, meta: Mapping[str, Any]) -> None:
        """Syncs everything to the disk, and then marks the store as complete; raises OSError."""
        for file in self._open.values():
            file.flush()
            os.fsync(file.fileno())
        about = {name: About(self._open[name].tell(), digest.hexdigest()) for name, digest in self._digests.items()}
        whole = {**meta, "files": {name: asdict(one) for name, one in about.items()}}
        write_json(self._folder / META, {**whole, "own_sha256": _own_sha256(whole)})


def _own_sha256(meta: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


def require_sound(folder: Path, vocabulary: int, progress: Progress) -> None:
    """Reads a whole store; raises DamagedError if a file differs from what was written, or holds impossible values.

    The cost is a hash: 0.6 s per GB on a processor with instructions for it. `progress` is called with megabytes done
    and megabytes in total.
    """
    kind, files = _read_meta(folder)
    scan = _Scan(folder, kind, files, vocabulary, progress)
    count = {name: scan.read(name) for name in NAMES}
    if count["ends"] != 2 * count["rows"] or scan.last_ends[0] != count["ids"]:
        raise DamagedError(folder / "ends", MISFIT)
    if count["hashes"] != count["rows"]:
        raise DamagedError(folder / "hashes", MISFIT)
    if count["answers"] not in (0, count["rows"]):
        raise DamagedError(folder / "answers", MISFIT)
    if count["spans"] and not _spans_fit(folder):
        raise DamagedError(folder / "spans", MISFIT)


def _spans_fit(folder: Path) -> bool:
    """Whether the spans are in order, each inside one row, and as many ids are in those of a row as it says."""
    ends, spans = Numbers(folder / "ends").mapped().reshape(-1, 2), Numbers(folder / "spans").mapped()
    starts, stops = spans[::2], spans[1::2]
    if len(spans) % 2 or (np.diff(spans) < 0).any() or (starts == stops).any():
        return False
    if spans[0] < 0 or spans[-1] > ends[-1, 0]:
        return False
    owners = np.searchsorted(ends[:, 0], starts, side="right")
    rows, of_row = np.unique(owners, return_inverse=True)
    learned = np.zeros(len(rows), dtype=np.int64)
    np.add.at(learned, of_row, stops - starts)
    before = np.where(rows > 0, ends[rows - 1, 1], 0)
    return bool((stops <= ends[owners, 0]).all() and (learned == ends[rows, 1] - before).all())


def _read_meta(folder: Path) -> tuple[str, dict[str, About]]:
    """The kind of a token id, and the recorded properties of each file."""
    meta = read_json(folder / META)
    if meta.pop("own_sha256", None) != _own_sha256(meta):
        raise DamagedError(folder / META, DIFFERS)
    try:
        files = reader(dict[str, About])(meta["files"])
        if meta["dtype"] not in KINDS or not set(NAMES) <= files.keys():
            raise ValueError("not a store")
    except (KeyError, TypeError, ValueError):
        raise DamagedError(folder / META, "it does not describe a token store") from None
    return str(meta["dtype"]), files


class _Scan:
    """Reads the files of a store from beginning to end."""

    def __init__(
        self, folder: Path, kind: str, files: Mapping[str, About], vocabulary: int, progress: Progress
    ) -> None:
        self._folder, self._kind, self._files, self._vocabulary = folder, kind, files, vocabulary
        self._progress, self._done, self._total = progress, 0, sum(one.bytes for one in files.values())
        self.last_ends = np.zeros(2, dtype=np.int64)

    def read(self, name: str) -> int:
        """The number of values in a file; raises DamagedError."""
        path, about = self._folder / name, self._files[name]
        kind = np.dtype(self._kind if name == "ids" else np.int64)
        digest, wide, size = hashlib.sha256(), kind.itemsize, 0
        try:
            with open(open_regular(path), "rb") as file:
                while size <= about.bytes and (data := file.read(READ_AT_ONCE)):
                    digest.update(data)
                    size += len(data)
                    self._look_at(path, np.frombuffer(data[: len(data) // wide * wide], kind))
                    self._report(len(data))
        except OSError as error:
            raise DamagedError(path, error.strerror or str(error)) from None
        if size != about.bytes or digest.hexdigest() != about.sha256:
            raise DamagedError(path, DIFFERS)
        return size // wide

    def _report(self, more: int) -> None:
        self._done += more
        self._progress(self._done // 1_000_000, self._total // 1_000_000)

    def _look_at(self, path: Path, numbers: npt.NDArray[Any]) -> None:
        """Raises DamagedError for values that no run can use."""
        if path.name == "ids" and numbers.max(initial=0) >= self._vocabulary:
            raise DamagedError(path, f"token {numbers.max()} is beyond the vocabulary of {self._vocabulary}")
        if path.name != "ends" or len(numbers) < 2:
            return
        ends = np.concatenate((self.last_ends[None], numbers[: len(numbers) // 2 * 2].reshape(-1, 2)))
        more = np.diff(ends, axis=0)
        if (more < 0).any() or (more[:, 1] > more[:, 0]).any():
            raise DamagedError(path, "its ends are out of order")
        self.last_ends = ends[-1]


class Numbers:
    """Numbers in a file, read on demand: pages of a mapped file would count as the process's memory."""

    def __init__(self, path: Path, kind: npt.DTypeLike = np.int64) -> None:
        self._kind = np.dtype(kind)
        self._file = open_regular(path)
        weakref.finalize(self, os.close, self._file)
        self.count = os.fstat(self._file).st_size // self._kind.itemsize

    def part(self, start: int, end: int) -> npt.NDArray[Any]:
        """The numbers from `start` to `end`."""
        size = self._kind.itemsize
        return np.frombuffer(os.pread(self._file, (end - start) * size, start * size), self._kind)

    def one(self, place: int) -> int:
        """The number at one position."""
        return int(self.part(place, place + 1)[0])

    def mapped(self) -> npt.NDArray[Any]:
        """All of them, memory-mapped."""
        with os.fdopen(os.dup(self._file), "rb") as file:  # its path may no longer exist
            return np.memmap(file, dtype=self._kind, mode="r")


def remove(folder: Path) -> None:
    """Removes the files of a store, and its folder if nothing else is in it; raises OSError."""
    if folder.is_symlink():
        raise OSError(f"{folder} is a link")
    (folder / META).unlink(missing_ok=True)  # first: without it, it is not a store
    for name in (*NAMES, REFERENCES):
        (folder / name).unlink(missing_ok=True)
    folder.rmdir()
