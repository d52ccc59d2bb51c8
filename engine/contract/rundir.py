"""Names and paths of everything a run keeps, and its record."""

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from engine.contract import config as settings
from engine.contract.bounds import Between, Count, read_as, reader
from engine.contract.config import RunConfig
from engine.contract.files import (
    STAGED,
    STAGED_NAME,
    matching,
    named,
    open_regular,
    read_whole,
    reason,
    require_own_folder,
    staged,
    unreadable,
)
from engine.contract.messages import InputError
from engine.contract.project import Project, is_here, kept_in, seen_from

CHECKPOINT_NAME = re.compile(r"step-([0-9]{8})")
MANIFEST = "MANIFEST.json"
EARLIER, UNNAMED = "earlier", "unnamed"  # where runs are moved when others take their place
# Files that belong to a checkpoint even if its manifest cannot be read.
CHECKPOINT_FILES = ("trained.safetensors", "optimizer.safetensors", "config.json", "generation_config.json")
FROZEN_NAME = re.compile(r"[0-9a-f]{64}\.safetensors")
STACKS_NAME = re.compile(r"stacks-rank\d{1,4}\.txt")


def _settings_of_a_run(values: Mapping[str, Any]) -> None:
    """Raises ValueError if a setting has the wrong type, or if there is no output_dir."""
    settings.require_kinds(values)
    if "output_dir" not in values:
        raise ValueError("its config has no output_dir")


def _id_of_a_run(value: str) -> None:
    """Raises ValueError if it is not an id as made by `new_id`."""
    if value and not re.fullmatch("[0-9a-f]{32}", value):
        raise ValueError("no id of a run")


Id = Annotated[str, _id_of_a_run]
Settings = Annotated[dict[str, Any], _settings_of_a_run]
Processes = Annotated[int, Between(0, settings.setting_of("num_processes").high or 0)]


@dataclass(frozen=True)
class RunRecord:
    """What a run was asked to do; `run.json` in its folder."""

    run: str
    preset: str
    job: str  # "train", "test" or "rehearse"
    config: Settings
    overrides: dict[str, Any] = field(default_factory=dict)
    processes: Processes = 1
    resume: bool = False
    fresh: bool = False
    memory_limit: Count = 0  # bytes that the ranks of a rehearsal may take together; 0: unlimited
    force: bool = False  # continue although the checkpoint was made with something else
    accepted: list[str] = field(default_factory=list)  # settings that a resume may change although they affect results
    resume_option: str = ""  # the command or option that resumes it, as its starter would write it
    fresh_option: str = ""  # the same, for starting over
    elsewhere: str = ""  # the command that works if the launched processes do not find each other
    continued: bool = False  # the first half of the demo: once it has finished, its supervisor starts the second half
    id: Id = ""  # unique to this run; its output folder has the same id
    project: Project = ""  # the folder it was started in; in the file relative to the run's own folder, or unknown

    def run_config(self) -> RunConfig:
        """The settings; raises InputError if one is out of range."""
        return settings.from_json(self.config)

    @property
    def output(self) -> "OutputDir":
        """The folder where the run writes its model."""
        return OutputDir(Path(str(self.config["output_dir"])))


@dataclass(frozen=True)
class Owner:
    """The content of an output folder's owner file, by which other files are found and numbers compared."""

    run: str = ""
    id: Id = ""
    run_dir: str = ""
    output_dir: str = ""
    steps_total: Count = 0
    config: Annotated[dict[str, Any], settings.require_kinds] = field(default_factory=dict)
    finished: bool = False
    best: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Manifest:
    """The fields of a checkpoint's manifest that the app needs."""

    world_size: Count = 0


@dataclass(frozen=True)
class RunDir:
    """`logs/<run>/`: what a run writes about itself."""

    path: Path

    @property
    def events(self) -> Path:
        """The log stream."""
        return self.path / "events.jsonl"

    @property
    def plain_log(self) -> Path:
        """The run's lines as text, next to the folder: `logs/<run>.log`."""
        folder = self.path.absolute()
        return folder.with_name(f"{folder.name}.log")

    @property
    def record(self) -> Path:
        """The RunRecord."""
        return self.path / "run.json"

    @property
    def stop_request(self) -> Path:
        """The file whose existence asks the run to save and end."""
        return self.path / "control" / "stop"

    @property
    def now_request(self) -> Path:
        """The file whose existence asks the supervisor to end the run at once."""
        return self.path / "control" / "now"

    @property
    def trainer_output(self) -> Path:
        """Standard output and error of the trainer's processes."""
        return self.path / "trainer.log"

    @property
    def supervisor_output(self) -> Path:
        """Standard output and error of the supervisor."""
        return self.path / "supervisor.log"

    @property
    def processes(self) -> Path:
        """The processes of the newest attempt, as JSON: {attempt, supervisor, ranks}."""
        return self.path / "processes.json"

    @property
    def snapshot(self) -> Path:
        """A summary of the stream up to some offset, so that nobody must read it from the start."""
        return self.path / "snapshot.json"

    def stacks(self, rank: int) -> Path:
        """Where a rank writes its stacks on request."""
        return self.path / f"stacks-rank{rank}.txt"

    def files(self) -> Iterator[Path]:
        """Every file that the run wrote and that still exists, its record last; links are not followed."""
        if self.plain_log.is_file() and not self.plain_log.is_symlink():
            yield self.plain_log
        yield from named(self.stop_request.parent, [self.stop_request.name, self.now_request.name])
        yield from matching(self.path, STACKS_NAME)
        yield from matching(self.path, STAGED_NAME)
        known = (self.events, self.snapshot, self.processes, self.trainer_output, self.supervisor_output, self.record)
        yield from named(self.path, [path.name for path in known])

    def write_record(self, record: RunRecord) -> None:
        """Writes `run.json` atomically, with paths relative to the run's project."""
        home = os.path.relpath(record.project, self.path.absolute()) if record.project else ""
        write_json(self.record, asdict(replace(record, project=home, config=kept_in(record.project, record.config))))

    def read_record(self) -> RunRecord:
        """The record, with paths relative to the current folder; raises InputError if it is missing or invalid."""
        try:
            return self._seen_from_here(read_as(RunRecord, json.loads(read_whole(self.record))))
        except (FileNotFoundError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise InputError("run_record_bad", path=str(self.record), why=str(error)) from None
        except OSError as error:
            raise unreadable(self.record, error) from None

    def _seen_from_here(self, record: RunRecord) -> RunRecord:
        """The record of a run of another project, with its paths as seen from the current folder.

        If the record predates projects, or if its logs are reached by another path, the project is the one whose output
        folder belongs to the run.
        """
        home = os.path.normpath(self.path.absolute() / (record.project or "../.."))
        if is_here(home):
            return replace(record, project=home if record.project else "")
        there = replace(record, project=home, config=seen_from(home, record.config))
        relative = record.output.path != there.output.path
        if relative and record.output.is_of(record.run, record.id):
            return replace(record, project="")
        known = record.project or (relative and there.output.is_of(record.run, record.id))
        return there if known else record

    def belongs_to(self, id: object) -> bool:
        """Whether the record in this folder is that of the run with this id."""
        try:
            return bool(id) and self.read_record().id == id
        except InputError:
            return False

    def request_stop(self, why: str = "stop") -> None:
        """Asks the trainer to save and end at the next step; `why` is stop, or pause; raises OSError.

        The file's existence is the request, and an empty file means stop: on a full disk a file can often be created
        but not written to.
        """
        fd = self._requested(self.stop_request)
        try:
            os.write(fd, why.encode())
        except OSError:
            if why != "stop":
                raise
        finally:
            os.close(fd)

    def stop_requested(self) -> str:
        """What was requested: stop, pause, or an empty string."""
        try:
            return "pause" if read_whole(self.stop_request) == b"pause" else "stop"
        except FileNotFoundError:
            return ""
        except OSError:
            return "stop"

    def request_now(self) -> None:
        """Asks the supervisor to end the run without saving."""
        os.close(self._requested(self.now_request))

    def _requested(self, path: Path) -> int:
        """A descriptor of a request file, empty and with the current time; raises OSError."""
        path.parent.mkdir(exist_ok=True)
        require_own_folder(path.parent)
        fd = open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.utime(fd)
        return fd

    def clear_requests(self) -> None:
        """Removes the requests made of an earlier attempt; raises OSError."""
        require_own_folder(self.stop_request.parent)
        self.stop_request.unlink(missing_ok=True)
        self.now_request.unlink(missing_ok=True)


def new_id() -> str:
    """A unique id for a run."""
    return secrets.token_hex(16)


def create_run_dir(logs: Path, preset: str) -> RunDir:
    """A new folder `logs/<preset>-<number>`; two callers never get the same one; raises InputError.

    The number is above that of every folder and every plain log, which a user may have kept from a deleted run.
    """
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
        raise InputError("folder_unwritable", path=str(logs), setting="logs", **why_unwritable(logs, error)) from None


def broken_link(path: Path) -> Path | None:
    """The broken link among `path` and its parents; None if there is none."""
    return next((place for place in (path, *path.parents) if os.path.islink(place) and not os.path.exists(place)), None)


def why_unwritable(path: Path, error: OSError) -> dict[str, str]:
    """Why a folder could not be created or written, in both languages: {why, why_zh}."""
    link = broken_link(path)
    if link is None:
        return reason(error)
    target = os.readlink(link)
    return {
        "why": f"{link} is a link to {target}, which does not exist",
        "why_zh": f"{link} 是指向 {target} 的链接，而后者不存在",
    }


def _number(name: str, preset: str) -> int:
    found = re.fullmatch(re.escape(preset) + r"-(\d{1,9})(?:\.log)?", name)
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

    def run_dir(self) -> "RunDir | None":
        """The folder of the run that these contents belong to; None if nothing proves it.

        A copied or downloaded owner file can name any folder. That folder counts if its record has the same id, which
        only these two have; for contents that predate ids, if its record names this folder. If a whole project was
        moved or copied, the run's folder has its old path relative to the output folder; a copy never gets the
        original's folder.
        """
        owner = self.owner()
        place, home, wrote = owner.get("run_dir"), self._home(), self._written_in(owner)
        if not isinstance(place, str):
            return None
        moved = wrote is not None and wrote != home
        along = [home / os.path.relpath(place, wrote)] if moved else []
        original = [Path(place)] if not moved or not self._is_copy(owner) else []
        candidates = (RunDir(path) for path in (*along, *original))
        return next((run_dir for run_dir in candidates if self.is_named_by(run_dir)), None)

    def is_named_by(self, run_dir: "RunDir") -> bool:
        """Whether these contents and the run in a folder name each other, by id or, if they predate ids, by path."""
        owner = self.owner()
        try:
            record = run_dir.read_record()
        except InputError:
            return False
        if owner.get("id"):
            return bool(record.id == owner["id"])
        return self.is_of(record.run, record.id) and record.output.path.resolve() == self.path.resolve()

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


def files_of_checkpoint(folder: Path) -> list[str]:
    """The names of the files that a run writes into a checkpoint's folder, the manifest last."""
    return [*sorted({*CHECKPOINT_FILES, *_promised(folder)} - {MANIFEST}), MANIFEST]


def _promised(checkpoint: Path) -> list[str]:
    """The names of the files in a checkpoint's manifest."""
    files = read_json(checkpoint / MANIFEST).get("files")
    return list(files) if isinstance(files, dict) else []


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; {} if there is none."""
    try:
        value = json.loads(read_whole(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def read_json_as(kind: Any, path: Path) -> dict[str, Any]:
    """The object in a JSON file if it has the types and bounds of `kind`; {} if not."""
    found = read_json(path)
    try:
        reader(kind)(found)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return {}
    return found


def write_json(path: Path, value: Mapping[str, Any], *, durable: bool = True, compact: bool = False) -> None:
    """Writes `value` so that a reader finds the old file or the new one, never a part of one.

    `durable`: sync it to the disk; `compact`: write it on one line, for files that people do not read.
    """
    place = staged(path)
    try:
        with place.open("x", encoding="utf-8") as file:
            file.write(json.dumps(value, indent=None if compact else 1))
            file.write("\n")
            file.flush()
            if durable:
                os.fsync(file.fileno())
        place.rename(path)
        if durable:
            sync(path.parent)
    finally:
        place.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Syncs the content of a file, or the entries of a folder, to the disk; raises OSError."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def free_bytes(path: Path) -> int:
    """Free space of the file system that `path` is on, or will be on once it is created."""
    place = path.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


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
