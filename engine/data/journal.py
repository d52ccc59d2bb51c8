"""Undo of an import that was killed while renaming its files: afterwards all of them are old, or all are new.

Meanwhile each folder whose files are replaced holds a journal, which is also its lock. The old file stays next to
the new one under another name until the journal of the first folder says `done`; that line is when all are new.
A journal is read as untrusted input: it names files of its own folder, and describes them, so that only matching
files are touched.
"""

import contextlib
import fcntl
import json
import os
import secrets
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from engine.contract.durable import sync
from engine.contract.files import STAGED, open_regular, read_whole, reason
from engine.contract.messages import InputError

NAME = f"{STAGED}import"
LARGEST = 1 << 20  # bytes of a journal
DONE = b"done\n"
LONGEST_NAME, MOST_PID = 255, 1 << 32  # bytes of a file's name
PATIENCE, PAUSE = 20.0, 0.02  # seconds to wait for another import, which holds a lock only briefly


@dataclass(frozen=True)
class Entry:
    """A file being replaced: its name, whether it existed, and the identity of the new one."""

    name: str
    existed: bool
    new: list[int]

    @classmethod
    def of(cls, path: Path, staged: Path) -> Self:
        """The entry for a file that is about to be replaced; raises OSError."""
        return cls(path.name, os.path.lexists(path), _identity(staged.lstat()))


@dataclass(frozen=True)
class Journal:
    """The content of one folder's journal: the import, its process, all its folders in order, and this one's files."""

    id: str
    pid: int
    folders: list[str]
    files: list[Entry]

    def to_bytes(self) -> bytes:
        """The journal's first line."""
        return json.dumps(asdict(self)).encode() + b"\n"


def staged_name(name: str, pid: int) -> str:
    """The name of a new file before it gets its final name."""
    return f"{STAGED}{name}-{pid}"


def before_name(name: str, pid: int) -> str:
    """The name of the old file until all files have been renamed; staged files never have such a name."""
    return f"{STAGED}{name}-{pid}-before"


@contextlib.contextmanager
def held(folders: Iterable[Path]) -> Iterator[None]:
    """Holds the locks of folders, taken in an order that all imports share; settles what is left in them.

    Raises OSError, and InputError if another import holds one of them for too long.
    """
    with contextlib.ExitStack() as stack:
        for folder in sorted(folders):
            while (fd := _locked(folder, os.O_RDWR | os.O_CREAT)) is not None and os.fstat(fd).st_size:
                _settle(folder, fd)
            if fd is not None:
                stack.callback(os.close, fd)
                stack.callback(_forget, folder)
        yield


def _forget(folder: Path) -> None:
    """Removes an empty journal; one with content is left to `settle`."""
    path = folder / NAME
    with contextlib.suppress(OSError):
        if not path.lstat().st_size:
            path.unlink()


def begin(files: Sequence[tuple[Path, Path]]) -> list[Path]:
    """Writes what to undo if this process is killed, from pairs of a file and its replacement; raises OSError.

    Returns the folders, whose locks must be held; the first holds the deciding journal.
    """
    folders = sorted({path.parent for path, _ in files})
    said, names = secrets.token_hex(8), [str(folder) for folder in folders]
    for folder in folders:
        entries = [Entry.of(path, staged) for path, staged in files if path.parent == folder]
        _append(folder, Journal(said, os.getpid(), names, entries).to_bytes())
        sync(folder)
    return folders


def commit(folders: Sequence[Path]) -> None:
    """Marks all files as new from here on; raises OSError."""
    _append(folders[0], DONE)


def finish(folders: Sequence[Path]) -> None:
    """Undoes, or cleans up after, the imports in these folders' journals, the deciding one last; raises OSError."""
    for folder in reversed(folders):
        _finish(folder)


def settle(paths: Iterable[Path]) -> None:
    """Makes these files, and others in their folders, all old or all new after a killed import; raises InputError.

    Anything that reads files written by an import calls this first.
    """
    for folder in {Path(os.path.realpath(path)).parent for path in paths}:
        try:
            status = (folder / NAME).lstat()
            if stat.S_ISREG(status.st_mode) and (fd := _locked(folder, os.O_RDWR)) is not None:
                _settle(folder, fd)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise InputError("import_cut_off", path=str(folder / NAME), why=reason(error)) from None


def _settle(folder: Path, fd: int) -> None:
    try:
        _finish(folder)
    finally:
        os.close(fd)


def _finish(folder: Path) -> None:
    found = _read(folder)
    if found:
        _conclude(folder, *found)
    else:  # it was being written, so nothing has been renamed yet
        (folder / NAME).unlink(missing_ok=True)


def _locked(folder: Path, flags: int) -> int | None:
    """The journal of a folder with its lock, None if there is none to open; raises OSError and InputError."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            fd = open_regular(folder / NAME, flags)
        except FileNotFoundError:
            if flags & os.O_CREAT:
                raise
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(fd), (folder / NAME).lstat()):
                return fd
        except BlockingIOError:
            if time.monotonic() > until:
                os.close(fd)
                raise InputError("import_busy", path=str(folder)) from None
            time.sleep(PAUSE)
        except FileNotFoundError:
            pass
        except OSError:
            os.close(fd)
            raise
        os.close(fd)


def _append(folder: Path, data: bytes) -> None:
    fd = open_regular(folder / NAME, os.O_WRONLY | os.O_APPEND)
    try:
        while data:
            data = data[os.write(fd, data) :]
        os.fsync(fd)
    finally:
        os.close(fd)


def _read(folder: Path) -> tuple[Journal, bool] | None:
    """The journal of a folder, and whether it says `done`; None if it is truncated or invalid; raises OSError."""
    line, end, rest = read_whole(folder / NAME, LARGEST).partition(b"\n")
    try:
        said: Any = json.loads(line) if end else None
        folders = [_path(folder) for folder in said["folders"]]
        if not 0 < said["pid"] < MOST_PID:
            raise ValueError("no process has this number")
        journal = Journal(str(said["id"]), int(said["pid"]), folders, _entries(said["files"], said["pid"]))
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None
    return journal, rest.endswith(DONE)


def _path(said: Any) -> str:
    """A valid path from JSON; raises TypeError and ValueError."""
    if b"\0" in os.fsencode(said):
        raise ValueError("no path has a NUL")
    return str(said)


def _entries(files: Any, pid: int) -> list[Entry]:
    entries = [Entry(_path(file["name"]), file["existed"] is True, list(map(int, file["new"]))) for file in files]
    for entry in entries:
        longest = len(os.fsencode(before_name(entry.name, pid)))
        if entry.name in ("", ".", "..") or "/" in entry.name or longest > LONGEST_NAME:
            raise ValueError("a name that is no plain one")
    return entries


def _conclude(folder: Path, journal: Journal, done: bool) -> None:
    """Makes all files new or all old, and removes the journal."""
    first = Path(journal.folders[0]) if journal.folders else folder
    if not done and first != folder:  # in this order: it is marked here before it is removed there
        done = _is_marked_done(first, journal) or _is_marked_done(folder, journal) or False
    if done and first == folder:
        for other in map(Path, journal.folders[1:]):
            if _is_marked_done(other, journal) is False:
                _append(other, DONE)  # it may be read when the deciding journal is gone
    for entry in journal.files:
        _one(folder, entry, journal.pid, done)
    sync(folder)
    (folder / NAME).unlink(missing_ok=True)
    sync(folder)


def _is_marked_done(folder: Path, journal: Journal) -> bool | None:
    """Whether a folder's journal says `done`; None if it does not belong to this import; raises OSError."""
    try:
        found = _read(folder)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if found is None or (found[0].id, found[0].folders) != (journal.id, journal.folders):
        return None
    return found[1]


def _one(folder: Path, entry: Entry, pid: int, done: bool) -> None:
    """Restores one old file unless all are new; a file that a person has put there since is kept."""
    path, before = folder / entry.name, folder / before_name(entry.name, pid)
    kept = _known(before) is not None
    if not done and (_known(path) == entry.new or not os.path.lexists(path)):
        if entry.existed and kept:
            before.rename(path)
        elif not entry.existed:
            path.unlink(missing_ok=True)
    if kept:
        before.unlink(missing_ok=True)  # renaming onto a hard link of the same file does nothing
    staged = folder / staged_name(entry.name, pid)
    if _known(staged) == entry.new:
        staged.unlink()


def _known(path: Path) -> list[int] | None:
    """The identity of a regular file; None if there is none."""
    with contextlib.suppress(FileNotFoundError):
        status = path.lstat()
        return _identity(status) if stat.S_ISREG(status.st_mode) else None
    return None


def _identity(status: os.stat_result) -> list[int]:
    """The identity of a file, without the device, whose number may change on a restart."""
    return [status.st_ino, status.st_size, status.st_mtime_ns]
