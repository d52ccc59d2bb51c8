"""Starts a run from a preset or from a run that ended; refuses at once what would fail later."""

import contextlib
import os
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.contract import certificate, environment, exports
from engine.contract.child_command import module_command
from engine.contract.config import FIELDS, RunConfig, check_value, from_json, override, to_json
from engine.contract.files import open_to_append, reason
from engine.contract.inputs import require_files
from engine.contract.launch import OURS, Launch
from engine.contract.locks import FolderLock, busy, is_locked
from engine.contract.machine import gpus
from engine.contract.messages import InputError, Message
from engine.contract.outputdir import OutputDir, refuse_unfinished
from engine.contract.owner import new_id
from engine.contract.presets import PLAIN_NAME, preset
from engine.contract.project import is_here, place_of, seen_from
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir, create_run_dir
from engine.contract.stream import next_attempt
from sft_tui import remembered
from sft_tui.options import options_text
from sft_tui.removal import discard
from sft_tui.runs import Run, model_of

COMMAND = module_command("sft_tui.supervise.supervisor")
DEFAULT_LOGS = Path("logs")
WRITTEN = ("output_dir", "token_store", "export_state_dict")  # settings with the paths a run writes to


def plan_run(
    name: str,
    values: Mapping[str, Any],
    *,
    job: str = "train",
    resume: bool = False,
    fresh: bool = False,
    launched: int = 0,
    based_on: str = "",
    launch: Launch = OURS,
) -> RunRecord:
    """The record of a run, still without a name; raises InputError, or BusyError if another run holds the folder.

    A resumed run keeps the settings it was started with, not the preset's; `values` override either. `launched` is the
    number of processes that a launcher has already started; 0 if we start them; `launch`: what one will be asked for.
    `based_on` names the run whose settings these are.
    """
    base = preset(name).config
    output = OutputDir(Path(str(values.get("output_dir", base.output_dir))))
    if job == "train" and is_locked(output.path):
        raise busy(output.path)
    earlier = _earlier_record(output) or _record_of_contents(name, output) if resume else None
    if earlier is not None:
        place = output.path if is_here(earlier.project) else output.path.absolute()
        config = {**earlier.config, "output_dir": str(place)}
        record = replace(earlier, config=config, launch=launch)
        return plan_resume(record, values, launched=launched or launch.processes * bool(launch.launcher))
    settings, overrides = override(base, values)
    needed = ["train_file", "validation_file", "tokenizer"] if job == "train" else ["test_file"]
    require_files(settings, *needed, *(["pretrained_model"] if job == "train" and not resume else []))
    fresh_option = f"{started_by(launch)} {name}{options_text(values)} --fresh"
    if job == "train" and not resume and not fresh:
        resume_option = f"sft-tui resume {output.owner().run}"
        refuse_unfinished(output, resume_option=resume_option, fresh_option=fresh_option)
    return RunRecord(
        run="",
        preset=name,
        job=job,
        config=to_json(settings),
        overrides=overrides,
        processes=launched or (launch.processes if launch.launcher else settings.num_processes),
        resume=resume,
        fresh=fresh,
        fresh_option=fresh_option,
        elsewhere=f"ACCELERATE_USE_CPU=true {started_by(launch)} {name}{options_text(values)}",
        based_on=based_on,
        launch=launch,
    )


def plan_resume(
    record: RunRecord,
    values: Mapping[str, Any],
    *,
    force: bool = False,
    fix: Mapping[str, Any] | None = None,
    launched: int = 0,
) -> RunRecord:
    """The record of the next attempt of a run; raises InputError, or BusyError if its folder is in use.

    `values` and `fix` override the earlier settings; a fix, or more epochs, may change settings that a resume may not.
    """
    output = record.output
    require_resumable(record)
    # The owner file has the settings that the trainer accepted; the record may be that of a refused resume.
    accepted = output.owner().config if record.run else {}
    base = from_json(seen_from(record.project, accepted) if accepted else record.config)
    config, overrides = override(replace(base, output_dir=str(output.path)), {**(fix or {}), **values})
    require_files(config, "train_file", "validation_file", "tokenizer")
    may_change = [*(fix or {}), *(["epochs"] if "epochs" in values else [])]
    return replace(
        record,
        config=to_json(config),
        overrides={**record.overrides, **overrides},
        processes=launched or _launched(record) or values.get("num_processes") or _processes_before(record, config),
        resume=True,
        fresh=False,
        force=force,
        accepted=may_change,
    )


def plan_test(run: Run, values: Mapping[str, Any]) -> RunRecord:
    """The record of a test of a run's best model with the run's settings, overridden by `values`; raises InputError."""
    output, record = model_of(run), run.record
    accepted = output.owner().config if record.job == "train" else {}
    had = from_json(seen_from(record.project, accepted) if accepted else record.config)
    config, overrides = override(replace(had, output_dir=str(output.path), num_processes=0), values)
    require_files(config, "test_file")
    return RunRecord(
        "",
        record.preset,
        "test",
        to_json(config),
        {**record.overrides, **overrides},
        processes=config.num_processes,
        project=record.project,
    )


def _processes_before(record: RunRecord, config: RunConfig) -> int:
    """The number of processes that wrote the newest checkpoint, or else that the run was started with.

    Raises InputError if the machine has no room for them: a number in a file must not start processes unchecked.
    """
    processes = record.output.world_size() or config.num_processes or record.processes
    cores = len(os.sched_getaffinity(0))
    if processes > cores and processes > gpus.gpu_count():
        run = record.run or str(record.output.path)
        raise InputError("resume_processes", run=run, processes=processes, cores=cores, gpus=gpus.gpu_count())
    return processes


def _launched(record: RunRecord) -> int:
    return record.launch.processes if record.launch.launcher else 0


def require_resumable(record: RunRecord) -> None:
    """Raises InputError if a run cannot be resumed, BusyError if its folder is in use."""
    output = record.output
    if record.job != "train":
        raise InputError("resume_not_training", run=record.run)
    if is_locked(output.path):
        raise busy(output.path)
    owner = output.owner()
    if owner.known and record.run and not owner.is_run(record.run, record.id):
        other = owner.run if owner.run != record.run else owner.run_dir
        raise InputError("resume_set_aside", run=record.run, path=str(output.path), owner=other)


def why_not_resumable(run: Run) -> Message | None:
    """Why a run cannot be resumed, including that it is finished; None if it can. Reads two small files.

    Does not check whether a finished run is still to be exported: that needs the hash of a whole model.
    """
    try:
        if run.alive:
            raise InputError("run_running", run=run.name)
        require_resumable(run.record)
    except InputError as error:
        return error.message
    return None if run.record.config.get("export_state_dict") else why_nothing_to_do(replace(run.record, resume=True))


def why_nothing_to_do(record: RunRecord) -> Message | None:
    """The message for a resume with nothing to do because the run is finished; None if there is something to do.

    A finished run may still be exported; raises InputError if the export's path holds a file that is not ours.
    """
    output = record.output
    owner = output.owner()
    if not (record.resume and record.is_finished(owner)):
        return None
    target = Path(str(record.config.get("export_state_dict", "")))
    if target.name and exports.is_due(target, output):
        if not exports.may_be_written(target, output):
            raise InputError("export_kept", path=str(target), best=str(output.best))
        return None
    options = {"resume_option": f"sft-tui resume {record.run}", "fresh_option": record.fresh_option}
    return Message.of("resume_finished", run=record.run, steps_total=owner.steps_total, **options)


def fix_of(run: Run) -> dict[str, Any]:
    """The settings that fix what ended a run; raises InputError if its end names none, or settings not allowed here.

    The end is read from a log that anybody can have written, and a fix is applied without a question: so it may only
    lower the settings that a certificate can name.
    """
    end = run.state.ended
    if end is None or not end.apply:
        raise InputError("fix_none", run=run.name, status=run.status)
    config = run.record.run_config()
    for name, value in end.apply.items():
        if name not in certificate.FIXABLE:
            raise InputError("fix_foreign", run=run.name, name=name[:40])
        check_value(name, value)
        if value >= getattr(config, name):
            raise InputError("fix_foreign", run=run.name, name=name)
    return end.apply


def started_by(launch: Launch) -> str:
    """The command that starts or prepares a run for this launcher."""
    if not launch.launcher:
        return "sft-tui run"
    return f"sft-tui prepare --launcher {launch.launcher} --nodes {launch.nodes} --gpus {launch.gpus}"


def _earlier_record(output: OutputDir) -> RunRecord | None:
    """The record of the run that `output` belongs to, if it can still be read."""
    run_dir = RunDir.of(output)
    return None if run_dir is None else run_dir.read_record()


def _record_of_contents(name: str, output: OutputDir) -> RunRecord | None:
    """The record of a run that is resumed from its output folder alone; None if the folder says nothing about it.

    All paths it writes to, except its output folder, are the preset's: the folder's contents may come from anybody.
    """
    said = {setting: value for setting, value in output.settings().items() if setting in FIELDS}
    if not said:
        return None
    base = preset(name).config
    config, overrides = override(base, said | {setting: getattr(base, setting) for setting in WRITTEN})
    return RunRecord("", name, "train", to_json(config), overrides, processes=0)


@dataclass(frozen=True)
class Opened:
    """The folder of a run, and its record as written there.

    `made` is the number of folders that were created for it, its own and parents; 0 if it existed.
    """

    run_dir: RunDir
    record: RunRecord
    made: int


def open_run_dir(logs: Path, record: RunRecord) -> Opened:
    """Opens a resumed run's own folder, or else a new one; raises InputError."""
    earlier = _own_folder(logs, record) if record.resume else None
    made = 0 if earlier else 1 + sum(not path.exists() for path in (logs, *logs.parents))
    plain = record.preset if PLAIN_NAME.fullmatch(record.preset) else "run"  # it may come from a file
    begins = plain if record.job == "train" else f"{plain}-{record.job}"
    run_dir = earlier or create_run_dir(logs, begins)
    name = run_dir.path.name
    where = "" if logs == DEFAULT_LOGS else f" --logs {shlex.quote(str(logs))}"
    named = replace(
        record,
        run=name,
        id=record.id if record.id and (earlier or not record.resume) else new_id(),  # a queue has chosen it
        project=record.project or os.getcwd(),
        resume_option=record.resume_option or f"sft-tui resume {name}{where}",
    )
    try:
        run_dir.write_record(named)
        run_dir.clear_requests()
    except OSError as error:
        raise InputError("folder_unwritable", path=str(run_dir.path), setting="logs", why=reason(error)) from None
    return Opened(run_dir, named, made)


def _own_folder(logs: Path, record: RunRecord) -> RunDir | None:
    """The folder of a resumed run; None if no folder is proved to be its own."""
    known = RunDir.of(record.output)
    if known is not None and known.read_record().id == record.id:
        return known
    named = RunDir(logs / record.run)
    plain = record.run == Path(record.run).name not in ("", "..")
    # The run ended before it owned its output folder, or its project was moved before runs had ids.
    return named if plain and (named.belongs_to(record.id) or named.made(record.output)) else None


@dataclass(frozen=True)
class Started:
    """A started run: its folder, its record, the number of this attempt, and its supervisor, our child.

    `made` is the number of folders created for this attempt, which are removed if the run is refused.
    """

    run_dir: RunDir
    record: RunRecord
    attempt: int
    supervisor: "subprocess.Popen[bytes]"
    made: int = 0


def processes_here() -> int:
    """The default number of processes of a run: one for each GPU, or one without GPUs."""
    return 1 if gpus.cpu_requested() else max(1, gpus.gpu_count())


def start(logs: Path, record: RunRecord) -> Started:
    """Starts the supervisor of a planned run; raises InputError, or BusyError if its folder is in use.

    The locks are taken here, where the user sees an error, and passed on: of several starts at once only one succeeds.
    """
    if record.launch.launcher:
        raise InputError("run_prepared", run=record.run)
    if not record.processes:
        record = replace(record, processes=processes_here())
    folder = record.output.path
    output = FolderLock.acquire(folder, record.run or record.preset, logs) if record.job == "train" else None
    opened: Opened | None = None
    mine: FolderLock | None = None
    try:
        opened = open_run_dir(logs, record)
        mine = FolderLock.acquire(opened.run_dir.path, opened.record.run, opened.run_dir.path, "logs")
        started = _launch(opened, mine, output)
        remembered.remember_run(logs, record)
        return started
    except InputError:
        for lock in filter(None, (mine, output)):
            lock.abandon()
        if opened is not None and opened.made:
            discard(opened.run_dir, opened.made)
        raise


def prepare(logs: Path, record: RunRecord) -> Opened:
    """Opens the folder of a run that a launcher will start; raises InputError, or BusyError if its folder is in use.

    The lock of the output folder is taken only for as long as that takes: on a machine of the run, rank 0 takes it.
    """
    lock = FolderLock.acquire(record.output.path, record.run or record.preset, logs)
    try:
        opened = open_run_dir(logs, record)
    finally:
        lock.abandon()
    remembered.remember_run(logs, record)
    return opened


def _launch(opened: Opened, mine: FolderLock, output: FolderLock | None) -> Started:
    run_dir, record = opened.run_dir, opened.record
    attempt = next_attempt(run_dir.events)
    env = {**os.environ, environment.RUN_LOCK_FD: str(mine.fd)}
    if output is not None:
        env |= {environment.LOCK_FD: str(output.fd), environment.LOCK_MADE: str(output.made)}
    locks = [lock for lock in (mine, output) if lock is not None]
    folder, project = place_of(run_dir.path, record.project)
    with _outputs(run_dir) as log:
        try:
            supervisor = subprocess.Popen(
                [*COMMAND, folder],
                cwd=project,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=[lock.fd for lock in locks],
            )
        except OSError as error:  # out of memory or processes, or the Python environment is gone
            why = f"{error.strerror}: {error.filename}" if error.filename else reason(error)
            raise InputError("start_failed", run=record.run, why=why) from None
    for lock in locks:
        with contextlib.suppress(OSError):  # on a full disk the lock is held without naming its holder
            lock.sign(supervisor.pid, record.run, run_dir.path)
        lock.release()
    return Started(run_dir, record, attempt, supervisor, opened.made)


@contextlib.contextmanager
def _outputs(run_dir: RunDir) -> Iterator[int]:
    """The file for the supervisor's output; raises InputError if it, or a later file of the run, cannot be made."""
    with contextlib.ExitStack() as opened:
        for path in (run_dir.events, run_dir.trainer_output, run_dir.supervisor_output):
            try:
                fd = open_to_append(path)
            except OSError as error:
                raise InputError("folder_unwritable", path=str(path), setting="logs", why=reason(error)) from None
            opened.callback(os.close, fd)
        yield fd
