"""Names and paths of everything a run keeps, its record, and the lock of its output folder."""

import contextlib
import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self, get_origin, get_type_hints

from engine.contract import config as settings
from engine.contract.config import RunConfig
from engine.contract.messages import BusyError, InputError

CHECKPOINT_NAME = re.compile(r"step-([0-9]{8})")
MANIFEST = "MANIFEST.json"


@dataclass(frozen=True)
class RunRecord:
    """What a run was asked to do; `run.json` in its folder."""

    run: str
    preset: str
    job: str  # "train" or "test"
    config: dict[str, Any]
    overrides: dict[str, Any] = field(default_factory=dict)
    processes: int = 1
    resume: bool = False
    fresh: bool = False
    resume_option: str = ""  # the command or option that resumes it, as its starter would say it
    fresh_option: str = ""  # likewise, begins anew
    elsewhere: str = ""  # the command that works where the launched processes do not find each other

    def run_config(self) -> RunConfig:
        """The settings; raises InputError where one is out of range."""
        return settings.from_json(self.config)


@dataclass(frozen=True)
class RunDir:
    """`logs/<run>/`: what a run writes about itself."""

    path: Path

    @property
    def events(self) -> Path:
        """The log stream."""
        return self.path / "events.jsonl"

    @property
    def record(self) -> Path:
        """The RunRecord."""
        return self.path / "run.json"

    @property
    def stop_request(self) -> Path:
        """Asks the run to save and end, by being there."""
        return self.path / "control" / "stop"

    @property
    def trainer_output(self) -> Path:
        """Standard output and error of the trainer's processes."""
        return self.path / "trainer.log"

    def write_record(self, record: RunRecord) -> None:
        """Writes `run.json` in one piece."""
        write_json(self.record, asdict(record))

    def read_record(self) -> RunRecord:
        """The record; raises InputError where it is missing or not one."""
        try:
            record = RunRecord(**json.loads(self.record.read_text(encoding="utf-8")))
            for name, kind in get_type_hints(RunRecord).items():
                if not isinstance(getattr(record, name), get_origin(kind) or kind):
                    raise TypeError(f"{name} is not {kind.__name__}")
            return record
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise InputError("run_record_bad", path=str(self.record), why=str(error)) from None

    def request_stop(self) -> None:
        """Asks the trainer to save and end at the next step."""
        self.stop_request.parent.mkdir(exist_ok=True)
        self.stop_request.touch()


def create_run_dir(logs: Path, preset: str) -> RunDir:
    """A new folder `logs/<preset>-<number>`; two callers never get the same one; raises InputError."""
    try:
        logs.mkdir(parents=True, exist_ok=True)
        number = 1 + max((_number(entry.name, preset) for entry in logs.iterdir()), default=0)
        while True:
            try:
                (logs / f"{preset}-{number}").mkdir()
                return RunDir(logs / f"{preset}-{number}")
            except FileExistsError:
                number += 1
    except OSError as error:
        raise InputError(
            "folder_unwritable", path=str(logs), why=error.strerror or str(error), setting="logs"
        ) from None


def _number(name: str, preset: str) -> int:
    found = re.fullmatch(re.escape(preset) + r"-(\d{1,9})", name)
    return int(found[1]) if found else 0


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
    def owner_file(self) -> Path:
        """Which run the contents belong to, as JSON."""
        return self.path / "RUN.json"

    @property
    def lock_file(self) -> Path:
        """Locked while a run writes here."""
        return self.path / ".lock"

    def owner(self) -> dict[str, Any]:
        """The run these contents belong to: {run, run_dir, steps_total, config, finished}; {} where there is none."""
        return read_json(self.owner_file)

    def checkpoint_steps(self) -> list[int]:
        """Steps of the published checkpoints, newest first; other names in the folder are passed over."""
        try:
            names = [entry.name for entry in self.checkpoints.iterdir()]
        except OSError:
            return []
        return sorted((int(found[1]) for name in names if (found := CHECKPOINT_NAME.fullmatch(name))), reverse=True)

    def checkpoint(self, step: int) -> Path:
        """The folder of the checkpoint of `step`."""
        return self.checkpoints / f"step-{step:08d}"

    def set_aside(self) -> tuple[Path, int] | None:
        """Moves what an earlier run left to `earlier/`; its new place and size in bytes, None if there was nothing."""
        parts = [p for p in (self.checkpoints, self.best, self.evaluations, self.owner_file) if p.exists()]
        if not parts:
            return None
        name = str(self.owner().get("run") or "unnamed")
        base = self.path / "earlier" / (name if re.fullmatch(r"\w[\w.-]{,59}", name) else "unnamed")
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


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; {} where there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes `value` so that a reader finds the old file or the new one, never a part."""
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    with staged.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    staged.rename(path)


def free_bytes(path: Path) -> int:
    """Free space of the file system that `path` is on, or would be once it is made."""
    place = path.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


PATIENCE = 0.5  # seconds that a lock whose holder cannot be told is asked for again


class FolderLock:
    """The right to write into an output folder, held by a flock that ends with its process."""

    def __init__(self, fd: int, made: list[Path]) -> None:
        self._fd, self._made = fd, made

    @classmethod
    def acquire(cls, output: OutputDir, run: str) -> Self:
        """Takes the lock; raises BusyError that names the holder, InputError where the folder cannot be written."""
        made = [path for path in (output.path, *output.path.parents) if not path.exists()]
        try:
            fd = _locked_file(output)
        except BlockingIOError:
            raise busy(output) from None
        except OSError as error:
            raise _unwritable(output, error) from None
        holder = {"run": run, "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S"), **_identity(os.getpid())}
        lock = cls(fd, [output.lock_file, *made] if made else [])
        try:
            os.ftruncate(fd, 0)
            os.pwrite(fd, json.dumps(holder).encode(), 0)
        except OSError as error:
            lock.abandon()
            raise _unwritable(output, error) from None
        return lock

    def abandon(self) -> None:
        """Gives the lock back and removes the folders that taking it made, where they are still empty."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, 0)  # where the file stays, it names nobody
            for path in self._made:
                path.rmdir() if path.is_dir() else path.unlink()
        os.close(self._fd)


def _unwritable(output: OutputDir, error: OSError) -> InputError:
    why = error.strerror or str(error)
    return InputError("folder_unwritable", path=str(output.path), why=why, setting="output_dir")


def _locked_file(output: OutputDir) -> int:
    """A locked descriptor of the lock file; raises BlockingIOError where another process has it."""
    patience = time.monotonic() + PATIENCE
    while True:
        try:
            return _try_to_lock(output)
        except (FileNotFoundError, BlockingIOError) as error:  # its holder gave it up, or somebody just looks at it
            if time.monotonic() > patience or (isinstance(error, BlockingIOError) and _named(output)):
                raise
        except FileExistsError:
            if output.path.exists() or time.monotonic() > patience:
                raise
        time.sleep(PATIENCE / 100)


def _try_to_lock(output: OutputDir) -> int:
    output.path.mkdir(parents=True, exist_ok=True)
    fd = os.open(output.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(fd), os.stat(output.lock_file)):
            raise FileNotFoundError
    except OSError:
        os.close(fd)
        raise
    return fd


def _named(output: OutputDir) -> bool:
    """Whether the lock file names a process that is alive: the holder, not a run before it."""
    holder = read_json(output.lock_file)
    pid = holder.get("pid")
    return isinstance(pid, int) and bool(mine := _identity(pid)) and mine.items() <= holder.items()


def is_locked(output: OutputDir) -> bool:
    """Whether a run holds `output` now."""
    try:
        fd = os.open(output.lock_file, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(fd)


def refuse_unfinished(output: OutputDir, *, resume_option: str, fresh_option: str) -> None:
    """Raises InputError where `output` holds a run that was cut and could go on: it must not be lost unawares."""
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


def busy(output: OutputDir) -> BusyError:
    """The error that says who holds `output`, since when, and at which step."""
    holder = read_json(output.lock_file)
    steps = output.checkpoint_steps()
    saved = f", last checkpoint at step {steps[0]}" if steps else ""
    pid = holder["pid"] if isinstance(holder.get("pid"), int) else "?"
    who = f"{holder.get('run', '?')} (pid {pid}, since {holder.get('since', '?')}{saved})"
    return BusyError("busy", path=str(output.path), holder=who, pid=pid)


def _identity(pid: int) -> dict[str, str]:
    """What tells a process from a later one with the same pid: its start time and the boot it belongs to."""
    try:
        start = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (OSError, IndexError):  # not Linux
        return {}
    return {"start": start, "boot": boot}
