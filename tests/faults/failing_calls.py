"""The calls by which this process writes into a folder: recorded in order, and one of them made to fail."""

import builtins
import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

KINDS = ("open", "write", "fsync", "rename", "mkdir")
Call = tuple[str, Path]


class Calls:
    """While it is entered: notes every call of KINDS in `folder`, opening only where it is for writing.

    The `nth` of `kind` fails.
    """

    def __init__(self, folder: Path, kind: str = "", nth: int = 0, number: int = errno.ENOSPC) -> None:
        self._folder, self._kind, self._left, self._number = Path(os.path.realpath(folder)), kind, nth, number
        self.seen: list[Call] = []
        self.hit = False

    def __enter__(self) -> Self:
        self._patch = pytest.MonkeyPatch()
        for place in (builtins, io):
            self._patch.setattr(place, "open", self._open(io.open))
        self._patch.setattr(os, "fsync", self._fsync(os.fsync))
        self._patch.setattr(os, "mkdir", self._with_path("mkdir", os.mkdir))
        for name in ("rename", "replace"):
            self._patch.setattr(os, name, self._with_path("rename", getattr(os, name), place=1))
        return self

    def __exit__(self, *_: object) -> None:
        self._patch.undo()

    def happens(self, kind: str, path: Path) -> None:
        """Notes a call on a path, and raises the error where it is its turn."""
        path = Path(os.path.realpath(path))
        if path != self._folder and self._folder not in path.parents:
            return
        self.seen.append((kind, path))
        if kind == self._kind:
            self._left -= 1
            if self._left == 0:
                self.hit = True
                raise OSError(self._number, os.strerror(self._number))

    def _with_path(self, kind: str, real: Callable[..., Any], place: int = 0) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            self.happens(kind, Path(args[place]))
            return real(*args, **kwargs)

        return called

    def _fsync(self, real: Callable[[int], None]) -> Callable[[int], None]:
        def fsync(fd: int) -> None:
            self.happens("fsync", Path(os.readlink(f"/proc/self/fd/{fd}")))
            real(fd)

        return fsync

    def _open(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def opened(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            if not isinstance(file, str | Path) or not set(mode) & set("wax+"):
                return real(file, mode, *args, **kwargs)
            self.happens("open", Path(file))
            return _Watched(real(file, mode, *args, **kwargs), Path(file), self)

        return opened


class _Watched:
    """An open file that tells of every write; of one that fails, half is written."""

    def __init__(self, file: Any, path: Path, calls: Calls) -> None:
        self._file, self._path, self._calls = file, path, calls

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._file)

    def write(self, data: Any) -> int:
        try:
            self._calls.happens("write", self._path)
        except OSError:
            self._file.write(data[: len(data) // 2])
            raise
        return int(self._file.write(data))


@contextmanager
def unreadable(path: Path) -> Iterator[None]:
    """Lets every attempt to open `path` for reading fail as on a bad sector."""
    real = io.open

    def opened(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if isinstance(file, str | Path) and Path(file) == path and "r" in mode:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return real(file, mode, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        for place in (builtins, io):
            patch.setattr(place, "open", opened)
        yield
