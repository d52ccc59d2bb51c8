"""The folder that a model is put together in: next to its place, and renamed to it only when it is whole and proved."""

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.contract.durable import free_bytes, sync, write_json
from engine.contract.files import STAGED, require_own_folder
from engine.contract.messages import InputError
from engine.contract.model_record import HASHES, RECORD
from engine.obtaining.repository import RemoteFile
from engine.obtaining.transfer import digest

SPARE = 64 << 20  # bytes that stay free


class Staging:
    """The unfinished content of `folder`; what a killed process left is there again when the next one begins."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder.parent / f"{STAGED}get-{folder.name}"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Makes the folder and keeps other processes out of it; raises InputError.

        What is in it when the block fails stays for the next try.
        """
        with writing(self.folder):
            parents = [parent for parent in self.folder.parents if not parent.exists()]
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            require_own_folder(self.path)
            self.path.mkdir(exist_ok=True)
            fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise InputError("model_being_made", path=str(self.folder)) from None
        try:
            with writing(self.folder):
                yield
        finally:
            with contextlib.suppress(OSError):  # not empty, or renamed
                self.path.rmdir()
                for parent in parents:
                    parent.rmdir()
            os.close(fd)

    def place(self, file: RemoteFile) -> Path:
        """Where a whole file belongs."""
        return self.path / file.name

    def part(self, file: RemoteFile) -> Path:
        """Where the beginning of a file is kept, by its content: another revision's is never continued."""
        return self.path / f"{file.name}.{file.hash[:16]}.part"

    def received(self, files: Iterable[RemoteFile]) -> int:
        """Bytes of these files that are there already."""
        found = (place for file in files for place in (self.place(file), self.part(file)) if place.is_file())
        return sum(place.stat().st_size for place in found)

    def require_space(self, needed: int) -> None:
        """Raises InputError if the disk has not this many bytes, and some to spare."""
        free = free_bytes(self.folder.parent)
        if free < needed + SPARE:
            sizes = {"needed": f"{(needed + SPARE) / 1e9:.2f}", "free": f"{free / 1e9:.2f}"}
            raise InputError("model_no_space", path=str(self.folder), **sizes)

    def finish(self, files: Iterable[str], record: Mapping[str, Any]) -> None:
        """Writes the hashes of the files and the record, removes everything else, and puts the folder in its place."""
        names = sorted(files)
        self._remove_others({*names, RECORD, HASHES})
        hashes = {name: digest(self.path / name, hashlib.sha256()) for name in names}
        (self.path / HASHES).write_text("".join(f"{value}  {name}\n" for name, value in hashes.items()))
        sizes = {name: (self.path / name).stat().st_size for name in names}
        write_json(self.path / RECORD, {**record, "files": sizes}, durable=False)
        for name in (*names, HASHES, RECORD):
            sync(self.path / name)
        sync(self.path)
        self.path.rename(self.folder)
        sync(self.folder.parent)

    def discard(self) -> None:
        """Removes what was put together so far."""
        for path in self.path.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def _remove_others(self, kept: set[str]) -> None:
        for path in sorted(self.path.rglob("*"), reverse=True):
            name = str(path.relative_to(self.path))
            if path.is_dir() and not path.is_symlink():
                with contextlib.suppress(OSError):  # not empty
                    path.rmdir()
            elif name not in kept:
                path.unlink()


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Wraps what is written for a model; raises InputError if it cannot be."""
    try:
        yield
    except OSError as error:
        if not error.errno:  # of the network
            raise
        raise InputError("model_unwritable", path=str(folder), why=error.strerror or str(error)) from None


def require_place(folder: Path) -> None:
    """Raises InputError if something else is where a model is to be put; an empty folder is not."""
    if os.path.lexists(folder) and not (folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir())):
        raise InputError("model_place_taken", path=str(folder))
