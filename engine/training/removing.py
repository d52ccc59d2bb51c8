"""Folders that a run removes; what people put into them stays."""

import os
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path

from engine.contract.manifest import files_of_checkpoint
from engine.contract.outputdir import within


def make_room(path: Path) -> None:
    """Removes whatever is in a checkpoint's place: a damaged one of an earlier attempt, or something unrelated."""
    if path.is_dir() and not path.is_symlink():
        remove_checkpoint(path)
    else:
        path.unlink(missing_ok=True)


def remove_checkpoint(folder: Path) -> None:
    """Removes a checkpoint; files that a person put into its folder are kept next to it; raises OSError."""
    kept, number = folder.with_name(f"{folder.name}-kept"), 2
    while os.path.lexists(kept):
        kept, number = folder.with_name(f"{folder.name}-kept.{number}"), number + 1
    remove(folder, files_of_checkpoint(folder), kept)


def remove(folder: Path, own: Iterable[str], kept: Path) -> None:
    """Removes a folder; what is not in `own` moves to the folder `kept` if its name is free there; raises OSError."""
    _keep_others(folder, set(own), kept)
    shutil.rmtree(folder)


def _keep_others(folder: Path, own: Collection[str], kept: Path) -> None:
    for name in set(os.listdir(folder)).difference(own):
        inner = within(own, name)
        if inner and (folder / name).is_dir() and not (folder / name).is_symlink():
            _keep_others(folder / name, inner, kept / name)
        elif not os.path.lexists(kept / name):
            kept.mkdir(parents=True, exist_ok=True)
            (folder / name).rename(kept / name)
