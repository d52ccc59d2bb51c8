"""The files of a token store: hashed as they are written, and checked before a run trains on them."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
import numpy.typing as npt

from engine.contract.bounds import Count, Name, reader
from engine.contract.durable import read_json, write_json
from engine.contract.files import open_regular

META = "meta.json"
IDS, ENDS, OF_ROWS = ("prompt.ids", "label.ids"), ("prompt.ends", "label.ends"), ("rows", "hashes")
NAMES = (*IDS, *ENDS, *OF_ROWS)
DIFFERS = "its content does not have its hash"
REFERENCES = "references.json"  # what replies are scored against, with a separate hash
KINDS = ("uint16", "uint32")  # of token ids
READ_AT_ONCE = 4 << 20  # bytes
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


class StoreWriter:
    """The files of a new store in `folder`, to which numbers are appended; `seal` completes them with their hashes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, BinaryIO] = {}
        self._digests = {name: hashlib.sha256() for name in NAMES}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        for name in NAMES:
            self._open[name] = self._stack.enter_context((self._folder / name).open("xb"))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def append(self, name: str, numbers: npt.NDArray[Any]) -> None:
        """Appends numbers to one of the files; raises OSError."""
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
    for ids, ends in zip(IDS, ENDS, strict=True):
        if count[ends] != count["rows"] or _last(folder / ends, count[ends]) != count[ids]:
            raise DamagedError(folder / ends, "it does not fit the other files")
    if count["hashes"] != count["rows"]:
        raise DamagedError(folder / "hashes", "it does not fit the other files")


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

    def read(self, name: str) -> int:
        """The number of values in a file; raises DamagedError."""
        path, about = self._folder / name, self._files[name]
        kind = np.dtype(self._kind if name in IDS else np.uint64 if name == "hashes" else np.int64)
        digest, wide, size, before = hashlib.sha256(), kind.itemsize, 0, 0
        try:
            with open(open_regular(path), "rb") as file:
                while size <= about.bytes and (data := file.read(READ_AT_ONCE)):
                    digest.update(data)
                    size += len(data)
                    before = self._look_at(path, np.frombuffer(data[: len(data) // wide * wide], kind), before)
                    self._report(len(data))
        except OSError as error:
            raise DamagedError(path, error.strerror or str(error)) from None
        if size != about.bytes or digest.hexdigest() != about.sha256:
            raise DamagedError(path, DIFFERS)
        return size // wide

    def _report(self, more: int) -> None:
        self._done += more
        self._progress(self._done // 1_000_000, self._total // 1_000_000)

    def _look_at(self, path: Path, numbers: npt.NDArray[Any], before: int) -> int:
        """The last of some ends, which continue from `before`; raises DamagedError for values unusable by a run."""
        if path.name in IDS and numbers.max(initial=0) >= self._vocabulary:
            raise DamagedError(path, f"token {numbers.max()} is beyond the vocabulary of {self._vocabulary}")
        if path.name not in ENDS or not len(numbers):
            return before
        if numbers[0] < before or (np.diff(numbers) < 0).any():
            raise DamagedError(path, "its ends are out of order")
        return int(numbers[-1])


def _last(path: Path, count: int) -> int:
    with open(open_regular(path), "rb") as file:
        file.seek(max(0, 8 * (count - 1)))
        return int(np.frombuffer(file.read(8), np.int64)[0]) if count else 0


def remove(folder: Path) -> None:
    """Removes the files of a store, and its folder if nothing else is in it; raises OSError."""
    if folder.is_symlink():
        raise OSError(f"{folder} is a link")
    (folder / META).unlink(missing_ok=True)  # first: without it, it is not a store
    for name in (*NAMES, REFERENCES):
        (folder / name).unlink(missing_ok=True)
    folder.rmdir()
