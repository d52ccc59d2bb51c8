"""The folder that a run writes its model to."""

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.contract.bounds import as_json
from engine.contract.durable import read_json_as, write_json
from engine.contract.files import STAGED, STAGED_NAME, matching, named, require_own_folder
from engine.contract.manifest import CHECKPOINT_NAME, Manifest, files_of_checkpoint, read_manifest
from engine.contract.messages import InputError
from engine.contract.owner import Owner

EARLIER, UNNAMED = "earlier", "unnamed"  # where runs are moved when others take their place
ADAPTER = "adapter"  # the folder in `best/` with the adapter that was merged into it
FROZEN_NAME = re.compile(r"[0-9a-f]{64}\.safetensors")


@dataclass(frozen=True)
class OutputDir:
    """`model_save/<preset>/`: the checkpoints, the best model, and which run they belong to."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Folder of `step-<8 digits>` folders and of `frozen/`."""
        return self.path / "checkpoints"

    @property
    def best(self) -> Path:
        """The best model as a transformers folder."""
        return self.path / "best"

    @property
    def evaluations(self) -> Path:
        """Scores of the run's evaluations so far, as JSON."""
        return self.path / "evaluations.json"

    @property
    def exported(self) -> Path:
        """What was exported from the best model as a state dict: {path, source, files}, as JSON."""
        return self.path / "exported.json"

    @property
    def owner_file(self) -> Path:
        """Which run the contents belong to, as JSON."""
        return self.path / "RUN.json"

    def owner(self) -> Owner:
        """The run that these contents belong to; an empty Owner if there is none."""
        return read_json_as(Owner, self.owner_file)

    def is_of(self, run: str, id: str) -> bool:
        """Whether the contents belong to a run; if they predate ids, to the run of that name."""
        return self.owner().is_run(run, id)

    def of_run(self, run: str, id: str) -> "OutputDir | None":
        """Where the contents of a run are: here, or in `earlier/` if another run took its place; None if nowhere."""
        if self.is_of(run, id):
            return self
        try:
            aside = [OutputDir(path) for path in self.earlier.iterdir() if path.name.startswith((run, UNNAMED))]
        except OSError:
            return None
        mine = [one for one in aside if one.is_of(run, id)]
        return max(mine, key=lambda one: one.owner_file.stat().st_mtime_ns, default=None)

    def possible_run_dirs(self) -> list[Path]:
        """Where the folder of the run may be, most likely first: `RunDir.of` checks which one it is.

        If a whole project was moved or copied, the run's folder has its old path relative to the output folder; a copy
        never gets the original's folder.
        """
        owner = self.owner()
        home, wrote = self._home(), self._written_in(owner)
        if not owner.run_dir:
            return []
        moved = wrote is not None and wrote != home
        along = [home / os.path.relpath(owner.run_dir, wrote)] if moved else []
        original = [Path(owner.run_dir)] if not moved or not self._is_copy(owner) else []
        return [*along, *original]

    def settings(self) -> dict[str, Any]:
        """The settings that the contents were made with: their owner's, or the newest checkpoint's; {} if unknown."""
        return self.owner().config or self.newest_manifest().config

    def world_size(self) -> int:
        """The number of processes that made the newest checkpoint; 0 if unknown."""
        return self.newest_manifest().world_size

    def unfinished(self) -> tuple[Owner, int] | None:
        """The interrupted run here that can resume, and the step of its newest checkpoint; None if there is none."""
        owner, steps = self.owner(), self.checkpoint_steps()
        return (owner, steps[0]) if owner.known and steps and not owner.finished else None

    def newest_manifest(self) -> Manifest:
        """What the newest checkpoint says about itself, unverified; an empty Manifest if there is none."""
        steps = self.checkpoint_steps()
        return read_manifest(self.checkpoint(steps[0])) if steps else Manifest()

    def was_written_here(self) -> bool:
        """Whether the run wrote these contents here, or they were moved to `earlier/` here; False for a copy."""
        return self._written_in(self.owner()) == self._home()

    def _home(self) -> Path:
        """The output folder of the run: this one, or the one whose `earlier/` contains this one."""
        here = self.path.resolve()
        return here.parent.parent if here.parent.name == self.earlier.name else here

    @staticmethod
    def _written_in(owner: Owner) -> Path | None:
        """The folder that the run wrote to; None if an older owner file does not say."""
        return Path(owner.output_dir).resolve() if owner.output_dir else None

    def _is_copy(self, owner: Owner) -> bool:
        """Whether the contents of the same run also exist where the run wrote them."""
        wrote = self._written_in(owner)
        if wrote is None or wrote == self._home():
            return False
        return bool(owner.id) and owner.id == OutputDir(wrote).owner().id

    def files_of_best(self) -> list[str]:
        """Names of the files that the run wrote into `best/`, those of the adapter below its folder's."""
        return self.owner().best

    def note_best(self, names: Iterable[str]) -> None:
        """Records what the run is about to write into `best/`, so that deleting the run removes exactly that."""
        owner = self.owner()
        every = sorted({*owner.best, *names})
        if owner.id and every != owner.best:
            self.write_owner(replace(owner, best=every))

    def write_owner(self, owner: Owner) -> None:
        """Writes the owner file; raises OSError."""
        write_json(self.owner_file, as_json(owner))

    def checkpoint_steps(self) -> list[int]:
        """Steps of the published checkpoints, newest first; other names in the folder are ignored."""
        try:
            names = [entry.name for entry in self.checkpoints.iterdir()]
        except OSError:
            return []
        return sorted((int(found[1]) for name in names if (found := CHECKPOINT_NAME.fullmatch(name))), reverse=True)

    def checkpoint(self, step: int) -> Path:
        """The folder of the checkpoint of `step`."""
        return self.checkpoints / f"step-{step:08d}"

    def remove_staged(self) -> None:
        """Removes files that a killed process was writing; call only while holding the folder's lock."""
        for folder in (self.checkpoints, self.checkpoints / "frozen", self.path):
            for entry in folder.glob(f"{STAGED}*"):
                if not STAGED_NAME.fullmatch(entry.name):
                    continue
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry, ignore_errors=True)
                else:
                    entry.unlink(missing_ok=True)

    @property
    def earlier(self) -> Path:
        """Folder of what earlier runs left here, each with its own owner file."""
        return self.path / EARLIER

    def files(self) -> Iterator[Path]:
        """Every file that the run wrote here and that still exists, the owner file last; links are not followed."""
        for step in self.checkpoint_steps():
            folder = self.checkpoint(step)
            yield from named(folder, files_of_checkpoint(folder))
        yield from matching(self.checkpoints / "frozen", FROZEN_NAME)
        yield from self._best_files()
        yield from named(self.path, [self.evaluations.name, self.exported.name, self.owner_file.name])

    def _best_files(self) -> Iterator[Path]:
        names = self.files_of_best()
        yield from named(self.best, names)
        if not self.best.is_symlink():
            yield from named(self.best / ADAPTER, within(names, ADAPTER))

    def place_aside(self) -> Path:
        """The folder in `earlier/` that the contents would be moved to."""
        name = self.owner().run
        base = self.earlier / (name if re.fullmatch(r"\w[\w.-]{,59}", name) else UNNAMED)
        place, number = base, 2
        while place.exists():
            place, number = base.with_name(f"{base.name}.{number}"), number + 1
        return place

    def set_aside(self) -> tuple[Path, int] | None:
        """Moves what an earlier run left to `earlier/`; its new path and size in bytes, None if there was nothing."""
        known = (self.checkpoints, self.best, self.evaluations, self.exported, self.owner_file)
        require_own_folder(self.earlier)
        parts = [p for p in known if p.exists()]
        if not parts:
            return None
        aside = self.place_aside()
        aside.mkdir(parents=True)
        size = sum(_size(part) for part in parts)
        for part in parts:
            part.rename(aside / part.name)
        return aside, size


def within(names: Iterable[str], folder: str) -> list[str]:
    """Those of some names that are below a folder, without the folder."""
    return [name.removeprefix(f"{folder}/") for name in names if name.startswith(f"{folder}/")]


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())


def refuse_unfinished(output: OutputDir, *, resume_option: str, fresh_option: str) -> None:
    """Raises InputError if `output` holds an interrupted run that could resume, so that it is not lost unnoticed."""
    found = output.unfinished()
    if found is not None:
        owner, step = found
        raise InputError(
            "unfinished_run",
            path=str(output.path),
            run=owner.run,
            step=step,
            steps_total=str(owner.steps_total),
            resume_option=resume_option,
            fresh_option=fresh_option,
        )
