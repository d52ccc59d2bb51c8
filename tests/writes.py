"""What is written to in some folders, reported by the kernel: by any process, in Python or not."""

import ctypes
import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

QUEUE_OVERFLOW, ONLY_FOLDERS = 0x4000, 0x0100_0000
CHANGES = {
    0x2: "modified",
    0x4: "attributes changed",
    0x8: "closed after writing",
    0x40: "moved away",
    0x80: "moved in",
    0x100: "created",
    0x200: "deleted",
    0x400: "folder deleted",
    0x800: "folder moved",
}
HEAD = struct.Struct("iIII")  # of an event: the watch, what happened, a cookie, the length of the name
libc = ctypes.CDLL(None, use_errno=True)


class Watch:
    """Notes every change of the files in `roots` and the folders below them, but not in the folders `own`."""

    def __init__(self, roots: Iterable[Path], own: Iterable[Path] = ()) -> None:
        self._fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self._fd >= 0, os.strerror(ctypes.get_errno())
        self._places: dict[int, Path] = {}
        spared = set(own)
        for root in roots:
            for place, folders, _ in os.walk(root):
                folders[:] = [name for name in folders if Path(place, name) not in spared]
                self._add(Path(place))

    def _add(self, folder: Path) -> None:
        watch = libc.inotify_add_watch(self._fd, os.fsencode(folder), sum(CHANGES) | ONLY_FOLDERS)
        assert watch >= 0, f"{folder}: {os.strerror(ctypes.get_errno())}"
        self._places[watch] = folder

    def changes(self) -> set[tuple[Path, str]]:
        """The changes since the last call: the path, and what happened to it."""
        return set(self._read())

    def _read(self) -> Iterator[tuple[Path, str]]:
        while True:
            try:
                data = os.read(self._fd, 1 << 16)
            except BlockingIOError:
                return
            while data:
                watch, what, _, length = HEAD.unpack_from(data)
                assert not what & QUEUE_OVERFLOW, "more changes than the kernel keeps"
                name = data[HEAD.size : HEAD.size + length].rstrip(b"\0")
                data = data[HEAD.size + length :]
                yield from ((self._places[watch] / os.fsdecode(name), CHANGES[bit]) for bit in CHANGES if what & bit)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
