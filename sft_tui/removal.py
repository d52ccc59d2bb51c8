"""Deletes exactly the files that a run wrote, even if other files lie among them."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from engine.contract.exports import exported, is_exported
from engine.contract.files import reason, remove_below
from engine.contract.locks import LOCK_NAME, FolderLock
from engine.contract.messages import InputError
from engine.contract.outputdir import OutputDir
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir
from sft_tui import remembered
from sft_tui.runs import Run

Files = list[Path]


def of(run: Run) -> list[tuple[Path, int]]:
    """What would be deleted, with sizes in bytes: the log, and what this run wrote to the output folder."""
    parts: dict[Path, int] = {}
    for folder, files in _all(run).items():
        whole = _holds_nothing_else(folder, files)
        for file in files:
            inside = folder in file.parents
            place = file if not inside else folder if whole else folder / file.relative_to(folder).parts[0]
            parts[place] = parts.get(place, 0) + _size(file)
    return list(parts.items())


def remove(run: Run) -> list[Path]:
    """Removes the files under their locks; returns what is left in the run's folders because the run did not write it.

    Raises InputError, or BusyError if a folder is in use. The locks are held until nothing of the run is left.
    """
    output, own = run.record.output, run.run_dir.path
    with contextlib.ExitStack() as held:
        locks = [FolderLock.acquire(path, run.name, own) for path in ([output.path] if _outputs(run) else []) + [own]]
        for lock in locks:
            held.callback(lock.release)
        places, left = _all(run), list[Path]()
        for folder, files in places.items():
            _unlink(folder, files)
            left += _left(folder, files)
        held.pop_all()
        for lock in locks:
            lock.remove() if lock.folder in places else lock.release()
    with contextlib.suppress(OSError):
        output.earlier.rmdir()
    return left


def discard(run_dir: RunDir, made: int) -> None:
    """Removes a run that never began: its files, and as many folders (its own and parents) as were made for it."""
    with contextlib.suppress(InputError):
        _unlink(run_dir.path, [*run_dir.files(), run_dir.path / LOCK_NAME])
    with contextlib.suppress(OSError):
        if made > 1:  # the folder of the runs too
            (run_dir.path.parent / remembered.FILE).unlink(missing_ok=True)
        for folder in (run_dir.path, *run_dir.path.parents)[:made]:
            folder.rmdir()


def _all(run: Run) -> dict[Path, Files]:
    """The run's files, by folder; those that prove ownership come last, so a failed deletion can be repeated."""
    found = {output.path: [*_exported(output), *output.files()] for output in _outputs(run)}
    return {**found, run.run_dir.path: list(run.run_dir.files())}


def _outputs(run: Run) -> list[OutputDir]:
    """The folders with the run's output: its output folder, or the folder to which a later run has moved it."""
    output = run.record.output
    earlier = output.earlier
    aside = sorted(earlier.iterdir()) if earlier.is_dir() and not earlier.is_symlink() else []
    candidates = [output, *(OutputDir(place) for place in aside if not place.is_symlink())]
    return [one for one in candidates if run.record.job == "train" and _belongs(one, run.record, run.run_dir)]


def _belongs(output: OutputDir, record: RunRecord, run_dir: RunDir) -> bool:
    """Whether output folder and run refer to each other; a copy of the run's folder is not the run."""
    owner = output.owner()
    if not record.id or owner.id != record.id:
        return False
    named = RunDir.of(output)
    return named is None or named.path.resolve() == run_dir.path.resolve()


def _exported(output: OutputDir) -> Files:
    """The run's state dict; a copied output folder names one that belongs to the original."""
    target = Path(exported(output).path)
    return [target] if output.was_written_here() and is_exported(target, output) else []


def _holds_nothing_else(folder: Path, files: Files) -> bool:
    known = {*files, folder / LOCK_NAME}
    return all(Path(place, name) in known for place, _, names in os.walk(folder) for name in names)


def _size(file: Path) -> int:
    try:
        return file.lstat().st_size
    except OSError:
        return 0


def _unlink(folder: Path, files: Iterable[Path]) -> None:
    for file in files:
        try:
            remove_below(folder if folder in file.parents else file.parent, file)
        except OSError as error:
            raise InputError("folder_unwritable", path=str(file), setting="logs", why=reason(error)) from None


def _left(folder: Path, files: Files) -> list[Path]:
    """Removes the folders that are now empty; returns the others, which hold files that the run did not write."""
    inside = {parent for file in files for parent in file.parents if folder in parent.parents}
    for place in sorted(inside, key=lambda place: len(place.parts), reverse=True):
        with contextlib.suppress(OSError):
            place.rmdir()
    left = sorted(place / name for place in {folder, *inside} if place.is_dir() for name in os.listdir(place))
    others = [path for path in left if path not in inside and path != folder / LOCK_NAME]
    if not (folder / LOCK_NAME).exists():  # an earlier run, which has no lock of its own
        with contextlib.suppress(OSError):
            folder.rmdir()
    return others
