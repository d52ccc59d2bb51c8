"""Deleting a run: what would go, and its going."""

import contextlib
import shutil
from pathlib import Path

from engine.contract.locks import FolderLock
from engine.contract.messages import InputError
from sft_tui.runs import Run


def of(run: Run) -> list[tuple[Path, int]]:
    """What would go, with sizes in bytes: the log, and the output where it is this run's own."""
    sizes = [(path, sum(f.stat().st_size for f in path.rglob("*") if f.is_file())) for path in _places(run)]
    plain = run.run_dir.plain_log
    return [*sizes, *([(plain, plain.stat().st_size)] if plain.is_file() else [])]


def _places(run: Run) -> list[Path]:
    output = run.record.output
    own = run.record.job == "train" and output.owner().get("run") == run.name
    return [run.run_dir.path, *([output.path] if own else [])]


def remove(run: Run) -> None:
    """Removes them, under their locks; raises InputError, or BusyError where one is in use."""
    places = _places(run)
    with contextlib.ExitStack() as held:
        for path in places:
            held.callback(FolderLock.acquire(path, run.name, run.run_dir.path).release)
        try:
            for path in reversed(places):
                shutil.rmtree(path)
            run.run_dir.plain_log.unlink(missing_ok=True)
        except OSError as error:
            why, where = error.strerror or str(error), str(error.filename or places[0])
            raise InputError("folder_unwritable", path=where, why=why, setting="logs") from None
