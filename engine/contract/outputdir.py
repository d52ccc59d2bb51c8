"""The folder that a run writes its model to."""

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.contract.bounds import Count
from engine.contract.durable import read_json, read_json_as, write_json
from engine.contract.files import STAGED, STAGED_NAME, matching, named, require_own_folder
from engine.contract.manifest import CHECKPOINT_NAME, MANIFEST, files_of_checkpoint
from engine.contract.messages import InputError
from engine.contract.owner import Owner

EARLIER, UNNAMED = "earlier", "unnamed"  # where runs are moved when others take their place
FROZEN_NAME = re.compile(r"[0-9a-f]{64}\.safetensors")


@dataclass(frozen=True)
class _Manifest:
    """The fields of a checkpoint's manifest that the app needs."""

    world_size: Count = 0


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

    def owner(self) -> dict[str, Any]:
        """The run that these contents belong to, {} if there is none.

        {run, id, run_dir, output_dir, steps_total, config, finished, best: names of files}; paths are absolute.
        """
        return read_json_as(Owner, self.owner_file)

    def is_of(self, run: str, id: str) -> bool:
        """Whether the contents belong to a run; if they predate ids, to the run of that name."""
        owner = self.owner()
        known = owner.get("id")
        return bool(known == id if known else run and owner.get("run") == run)

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
        place, home, wrote = owner.get("run_dir"), self._home(), self._written_in(owner)
        if not isinstance(place, str):
            return []
        moved = wrote is not None and wrote != home
        along = [home / os.path.relpath(place, wrote)] if moved else []
        original = [Path(place)] if not moved or not self._is_copy(owner) else []
        return [*along, *original]

    def settings(self) -> dict[str, Any]:
        """The settings that the contents were made with: their owner's, or the newest checkpoint's; {} if unknown."""
        steps = self.checkpoint_steps()
        manifest = read_json(self.checkpoint(steps[0]) / MANIFEST) if steps else {}
        said = self.owner().get("config") or manifest.get("config")
        return said if isinstance(said, dict) else {}

    def world_size(self) -> int:
        """The number of processes that made the newest checkpoint; 0 if unknown."""
        steps = self.checkpoint_steps()
        return int(read_json_as(_Manifest, self.checkpoint(steps[0]) / MANIFEST).get("world_size", 0)) if steps else 0

    def was_written_here(self) -> bool:
        """Whether the run wrote these contents here, or they were moved to `earlier/` here; False for a copy."""
        return self._written_in(self.owner()) == self._home()

    def _home(self) -> Path:
        """The output folder of the run: this one, or the one whose `earlier/` contains this one."""
        here = self.path.resolve()
        return here.parent.parent if here.parent.name == self.earlier.name else here

    @staticmethod
    def _written_in(owner: Mapping[str, Any]) -> Path | None:
        """The folder that the run wrote to; None if an older owner file does not say."""
        wrote = owner.get("output_dir")
        return Path(wrote).resolve() if isinstance(wrote, str) and wrote else None

    def _is_copy(self, owner: Mapping[str, Any]) -> bool:
        """Whether the contents of the same run also exist where the run wrote them."""
        wrote = self._written_in(owner)
        if wrote is None or wrote == self._home():
            return False
        original = OutputDir(wrote)
        return bool(owner.get("id")) and owner.get("id") == original.owner().get("id")

    def files_of_best(self) -> list[str]:
        """Names of the files that the run wrote into `best/`."""
        return list(self.owner().get("best", []))

    def note_best(self, names: Iterable[str]) -> None:
        """Records what the run is about to write into `best/`, so that deleting the run removes exactly that."""
        owner, known = self.owner(), self.files_of_best()
        every = sorted({*known, *names})
        if owner.get("id") and every != known:
            write_json(self.owner_file, {**owner, "best": every})

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
        yield from named(self.best, self.files_of_best())
        yield from named(self.path, [self.evaluations.name, self.exported.name, self.owner_file.name])

    def set_aside(self) -> tuple[Path, int] | None:
        """Moves what an earlier run left to `earlier/`; its new path and size in bytes, None if there was nothing."""
        known = (self.checkpoints, self.best, self.evaluations, self.exported, self.owner_file)
        require_own_folder(self.earlier)
        parts = [p for p in known if p.exists()]
        if not parts:
            return None
        name = str(self.owner().get("run") or UNNAMED)
        base = self.earlier / (name if re.fullmatch(r"\w[\w.-]{,59}", name) else UNNAMED)
        aside, number = base, 2
        while aside.exists():
            aside, number = base.with_name(f"{base.name}.{number}"), number + 1
        aside.mkdir(parents=True)
        size = sum(_size(part) for part in parts)
        for part in parts:
            part.rename(aside / part.name)
        return aside, size


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())


def refuse_unfinished(output: OutputDir, *, resume_option: str, fresh_option: str) -> None:
    """Raises InputError if `output` holds an interrupted run that could resume, so that it is not lost unnoticed."""
    owner, steps = output.owner(), output.checkpoint_steps()
    if owner and steps and not owner.get("finished"):
        raise InputError(
            "unfinished_run",
            path=str(output.path),
            run=str(owner.get("run")),
            step=steps[0],
            steps_total=str(owner.get("steps_total")),
            resume_option=resume_option,
            fresh_option=fresh_option,
        )
