"""The files that an import writes: permission is checked before anything is written, and all are replaced or none."""

import contextlib
import os
import re
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import psutil

from engine.contract.durable import sync
from engine.contract.files import STAGED, reason
from engine.contract.messages import InputError
from engine.data import journal

HELD = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


@dataclass(frozen=True)
class Target:
    """One file to write: the part of the rows that goes there, the path as given, and the path it resolves to."""

    part: str
    given: str
    path: Path
    overwrite: bool = False

    @property
    def staged(self) -> Path:
        """The file before it gets its final name."""
        return self.path.with_name(journal.staged_name(self.path.name, os.getpid()))

    @property
    def before(self) -> Path:
        """The previous file, until all files have their final names."""
        return self.path.with_name(journal.before_name(self.path.name, os.getpid()))

    def clear_stale(self) -> None:
        """Removes what an import left of this file if it was killed before it replaced any."""
        stale = re.compile(re.escape(f"{STAGED}{self.path.name}-") + r"(\d+)")
        for path in self.path.parent.iterdir():
            match = stale.fullmatch(path.name)
            if match and not psutil.pid_exists(int(match[1])):
                path.unlink(missing_ok=True)


def targets_of(given: Mapping[str, str], sources: Iterable[Path], *, overwrite: bool) -> list[Target]:
    """The targets by part; raises InputError if one is not a file, equals another, is a source, or already exists."""
    targets = [Target(part, path, Path(path).resolve(), overwrite) for part, path in given.items() if path]
    folders = {folder for target in targets for folder in target.path.parents}
    for target in targets:
        if target.path in folders or _is_no_file(target):
            raise InputError("target_not_file", path=target.given, setting=target.part)
    for one, other in combinations(targets, 2):
        if _same(one.path, other.path):
            raise InputError("targets_equal", path=one.given, one=one.part, other=other.part)
    known = list(sources)
    for target in targets:
        if any(_same(target.path, source) for source in known):
            raise InputError("target_is_source", path=target.given, setting=target.part)
    for target in targets:
        if target.path.exists() and not overwrite:
            raise InputError("import_exists", path=target.given)
    return targets


def _is_no_file(target: Target) -> bool:
    """Whether something other than a file exists there; raises InputError if no file can have such a name."""
    given = Path(target.given)  # `/dev/stdout` resolves to no path
    try:
        return any(path.exists() and not path.is_file() for path in (given, target.path))
    except OSError as error:
        raise InputError("folder_unwritable", path=target.given, setting=target.part, why=reason(error)) from None


def _same(one: Path, other: Path) -> bool:
    """Whether both paths lead to the same file, also through symbolic or hard links."""
    if one.resolve() == other.resolve():
        return True
    with contextlib.suppress(OSError):
        return one.samefile(other)
    return False


@contextlib.contextmanager
def folders_of(targets: Sequence[Target]) -> Iterator[None]:
    """Creates the folders of the targets, and removes those it created that stay empty; raises OSError."""
    made: list[Path] = []
    try:
        for target in targets:
            folder = target.path.parent
            missing = [place for place in (folder, *folder.parents) if not place.exists()]
            for place in reversed(missing):
                place.mkdir(exist_ok=True)
                made.append(place)
            if not folder.is_dir():
                folder.mkdir()  # raises the reason why it cannot be created
        yield
    finally:
        for place in reversed(made):
            with contextlib.suppress(OSError):  # not empty
                place.rmdir()


def replace_all(targets: Sequence[Target]) -> None:
    """Gives every staged file its final name, or leaves everything as it was; raises OSError.

    A process killed between the renames leaves journals, which the next one uses to settle what it left.
    """
    for target in targets:
        sync(target.staged)
    with journal.held({target.path.parent for target in targets}):
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
        try:
            _replace(targets)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _replace(targets: Sequence[Target]) -> None:
    for target in targets:
        if target.path.exists() and not target.overwrite:  # it appeared after the check
            raise InputError("import_exists", path=target.given)
    folders = sorted({target.path.parent for target in targets})
    try:
        journal.begin([(target.path, target.staged) for target in targets])
        for target in targets:
            _keep(target)
        for folder in folders:
            sync(folder)
        for target in targets:
            target.staged.rename(target.path)
        for folder in folders:
            sync(folder)
        journal.commit(folders)
    finally:
        journal.finish(folders)


def _keep(target: Target) -> None:
    """Keeps the existing file under another name too, by a hard link if the file system supports them."""
    if not target.path.exists():
        return
    target.before.unlink(missing_ok=True)
    try:
        os.link(target.path, target.before)
    except OSError:
        target.path.rename(target.before)
