"""Files of a run, opened so that anything put in their place does no harm.

Links are not followed, pipes and devices are not waited for, and reads are limited in size. A folder may be a link:
people keep their logs and models on other disks.
"""

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from engine.contract.messages import InputError
from engine.contract.texts import Phrase

MOST_BYTES = 16 << 20  # of a file that is read whole; the largest of ours, a snapshot, has half a megabyte
STAGED = ".tmp-sft-"  # prefix of the name of a file being written, until it gets its final name
# Names that a killed process may have left behind: only files with such names are ever removed.
STAGED_NAME = re.compile(
    r"\.tmp-sft-(?:step-\d{8}|best|frozen|\w[\w.-]*\.(?:jsonl?|bin))-\d{1,9}|\.tmp-sft-encodings(?:-node\d{1,4})?(?:-known)?|\.tmp-sft-nonce-[0-9a-f]{32}"
)
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
HARMLESS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
LINKED = "it is a link, and links are not followed"
IRREGULAR = "it is not a regular file"
HARD_LINKED = "it is a hard link to a file that has another name too"
FOREIGN = "a file of this name exists that no run wrote"
OURS = {
    LINKED: Phrase("why.file_linked"),
    IRREGULAR: Phrase("why.file_irregular"),
    HARD_LINKED: Phrase("why.file_hard_linked"),
    FOREIGN: Phrase("why.file_of_another"),
}
WRITING = os.O_WRONLY | os.O_RDWR


def open_regular(path: Path, flags: int = os.O_RDONLY, mode: int = 0o644) -> int:
    """A descriptor of a regular file, opened with `flags`; raises OSError for a link, a pipe or a device.

    A file opened for writing must have no second hard link: that file would be changed too.
    """
    try:
        fd = os.open(path, flags & ~os.O_TRUNC | HARMLESS, mode)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, LINKED, str(path)) from None
        raise
    try:
        _require_regular(path, os.fstat(fd), writing=bool(flags & WRITING))
        if flags & os.O_TRUNC:
            os.ftruncate(fd, 0)
    except OSError:
        os.close(fd)
        raise
    return fd


def _require_regular(path: Path, status: os.stat_result, *, writing: bool) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, IRREGULAR, str(path))
    if writing and status.st_nlink > 1:
        raise OSError(errno.EMLINK, HARD_LINKED, str(path))


def open_to_append(path: Path) -> int:
    """A descriptor that appends to a regular file, created if missing; raises OSError."""
    return open_regular(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)


def require_own_folder(folder: Path) -> None:
    """Raises OSError if a link stands in the place of a folder that a run makes for itself."""
    if folder.is_symlink():
        raise OSError(errno.ELOOP, LINKED, str(folder))


def read_whole(path: Path, most: int = MOST_BYTES) -> bytes:
    """The content of a regular file; raises OSError, also if it has more than `most` bytes."""
    data = read_piece(path, 0, most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it has more than {most >> 20} MB", str(path))
    return data


def read_linked(path: Path, most: int = MOST_BYTES) -> bytes:
    """The same for a user's own file, which may be reached through links."""
    return read_whole(Path(os.path.realpath(path)), most)


def read_end(path: Path, most: int) -> bytes:
    """The last bytes of a regular file, at most `most` of them; raises OSError."""
    fd = open_regular(path)
    try:
        return _read(fd, max(0, os.fstat(fd).st_size - most), most)
    finally:
        os.close(fd)


def read_piece(path: Path, offset: int, most: int) -> bytes:
    """The bytes of a regular file from `offset` on, at most `most` of them; raises OSError."""
    fd = open_regular(path)
    try:
        return _read(fd, offset, most)
    finally:
        os.close(fd)


def _read(fd: int, offset: int, most: int) -> bytes:
    parts: list[bytes] = []
    while most > 0 and (part := os.pread(fd, min(most, 1 << 20), offset)):
        parts.append(part)
        offset, most = offset + len(part), most - len(part)
    return b"".join(parts)


def end_of_hole(fd: int, offset: int) -> int:
    """The offset at which the data resume after `offset`: the end of the file if there are no more."""
    try:
        return os.lseek(fd, offset, os.SEEK_DATA)
    except OSError:
        return os.fstat(fd).st_size


def staged(path: Path) -> Path:
    """The path next to `path` where its content is written first; anything left there is removed."""
    place = path.with_name(f"{STAGED}{path.name}-{os.getpid()}")
    with contextlib.suppress(OSError):  # left by an earlier process with our pid; folders are handled elsewhere
        place.unlink()
    return place


def named(folder: Path, names: Iterable[str]) -> Iterator[Path]:
    """The files of a folder with one of these names."""
    return _chosen(folder, [name for name in names if name == Path(name).name])


def matching(folder: Path, pattern: re.Pattern[str]) -> Iterator[Path]:
    """The files of a folder whose name is of this form."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return iter(())
    return _chosen(folder, [name for name in names if pattern.fullmatch(name)])


def _chosen(folder: Path, names: list[str]) -> Iterator[Path]:
    """Those that exist; none if the folder is a link. A link in a file's place counts as a file."""
    if folder.is_symlink() or (folder.parent.name == "checkpoints" and folder.parent.is_symlink()):
        return
    for name in names:
        path = folder / name
        if path.is_symlink() or path.is_file():
            yield path


def remove_below(folder: Path, file: Path) -> None:
    """Removes a file below `folder`, if it exists.

    Raises OSError, also if a link has meanwhile replaced a folder on the way to it.
    """
    *way, name = file.relative_to(folder).parts
    try:
        fd = os.open(folder, FOLDER)
    except FileNotFoundError:
        return
    try:
        for part in way:
            inner = os.open(part, FOLDER | os.O_NOFOLLOW, dir_fd=fd)
            os.close(fd)
            fd = inner
        os.unlink(name, dir_fd=fd)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise OSError(errno.ELOOP, LINKED, str(file)) from None
    finally:
        os.close(fd)


def reason(error: OSError) -> str | Phrase:
    """Why a file cannot be used."""
    why = error.strerror or str(error)
    return OURS.get(why, why)


def broken_link(path: Path) -> Path | None:
    """The broken link among `path` and its parents; None if there is none."""
    return next((place for place in (path, *path.parents) if os.path.islink(place) and not os.path.exists(place)), None)


def why_unwritable(path: Path, error: OSError) -> str | Phrase:
    """Why a folder could not be created or written."""
    link = broken_link(path)
    if link is None:
        return reason(error)
    return Phrase.of("why.link_broken", link=str(link), target=os.readlink(link))


def unreadable(path: Path, error: OSError) -> InputError:
    """The error that says why a file of a run cannot be read."""
    return InputError("run_file_unreadable", path=str(path), why=reason(error))
