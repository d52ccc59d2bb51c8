"""From a preset, or from a run that ended, to a run that is under way; refuses at once what would fail later."""

import os
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.contract import certificate, environment
from engine.contract.config import check_value, from_json, override, to_json
from engine.contract.inputs import require_files
from engine.contract.locks import FolderLock, busy, is_locked
from engine.contract.messages import InputError, Message
from engine.contract.presets import preset
from engine.contract.rundir import OutputDir, RunDir, RunRecord, create_run_dir, refuse_unfinished
from engine.contract.stream import next_attempt
from sft_tui import gpus
from sft_tui.child import module_command
from sft_tui.runs import Run

COMMAND = module_command("sft_tui.supervisor")
DEFAULT_LOGS = Path("logs")


def plan_run(
    name: str, values: Mapping[str, Any], *, job: str = "train", resume: bool = False, fresh: bool = False
) -> RunRecord:
    """The record of a run, not yet named; raises InputError, or BusyError where another run holds the folder.

    A resumed run takes the settings it was started with, not the preset's; `values` go over either.
    """
    base = preset(name).config
    output = OutputDir(Path(str(values.get("output_dir", base.output_dir))))
    if job == "train" and is_locked(output.path):
        raise busy(output.path)
    earlier = _earlier_record(output) if resume else None
    if earlier is not None:
        return plan_resume(replace(earlier, config={**earlier.config, "output_dir": str(output.path)}), values)
    config, overrides = override(base, values)
    needed = ["train_file", "validation_file", "tokenizer"] if job == "train" else ["test_file"]
    require_files(config, *needed, *(["pretrained_model"] if job == "train" and not resume else []))
    fresh_option = f"sft-tui run {name}{options_text(values)} --fresh"
    if job == "train" and not resume and not fresh:
        resume_option = f"sft-tui resume {output.owner().get('run')}"
        refuse_unfinished(output, resume_option=resume_option, fresh_option=fresh_option)
    return RunRecord(
        run="",
        preset=name,
        job=job,
        config=to_json(config),
        overrides=overrides,
        processes=config.num_processes,
        resume=resume,
        fresh=fresh,
        fresh_option=fresh_option,
        elsewhere=f"ACCELERATE_USE_CPU=true sft-tui run {name}{options_text(values)}",
    )


def plan_resume(
    record: RunRecord, values: Mapping[str, Any], *, force: bool = False, fix: Mapping[str, Any] | None = None
) -> RunRecord:
    """The record of the next attempt of a run; raises InputError, or BusyError where its folder is in use.

    `values` and `fix` go over the settings of before; a fix, and more epochs, may change what a resume may not.
    """
    output = record.output
    if record.job != "train":
        raise InputError("resume_not_training", run=record.run)
    if is_locked(output.path):
        raise busy(output.path)
    owner = output.owner()
    if owner and record.run and owner.get("run") != record.run:
        raise InputError("resume_set_aside", run=record.run, path=str(output.path), owner=str(owner.get("run")))
    # The owner file has the settings that the trainer accepted; the record may be of a resume that was refused.
    accepted = owner.get("config")
    base = from_json(accepted if isinstance(accepted, dict) else record.config)
    config, overrides = override(replace(base, output_dir=str(output.path)), {**(fix or {}), **values})
    require_files(config, "train_file", "validation_file", "tokenizer")
    may_change = [*(fix or {}), *(["epochs"] if "epochs" in values else [])]
    return replace(
        record,
        config=to_json(config),
        overrides={**record.overrides, **overrides},
        processes=config.num_processes or record.processes,
        resume=True,
        fresh=False,
        force=force,
        accepted=may_change,
    )


def is_finished(record: RunRecord) -> bool:
    """Whether a run has done all it was asked for, and is not asked for more epochs now."""
    owner = record.output.owner()
    had = owner.get("config", {})
    epochs = had.get("epochs", 0) if isinstance(had, dict) else 0
    return bool(owner.get("finished")) and not ("epochs" in record.accepted and record.config["epochs"] > epochs)


def nothing_left(record: RunRecord) -> Message | None:
    """What to say of a resume that would do nothing, because its run is finished; None where there is something."""
    if not (record.resume and is_finished(record)):
        return None
    steps = int(record.output.owner().get("steps_total") or 0)
    options = {"resume_option": f"sft-tui resume {record.run}", "fresh_option": record.fresh_option}
    return Message.of("resume_finished", run=record.run, steps_total=steps, **options)


def fix_of(run: Run) -> dict[str, Any]:
    """The settings that fix what ended a run; raises InputError where its end names none, or other settings.

    The end is read from a log that anybody can have written, and nobody is asked before a fix is applied: so it may
    lower the settings that a certificate names, and nothing else.
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


def options(values: Mapping[str, Any]) -> list[str]:
    """Settings as the words of a command line."""
    return [word for name, value in values.items() for word in (f"--{name}", str(value))]


def options_text(values: Mapping[str, Any]) -> str:
    """Settings as they are typed on a command line, each with a space before it."""
    return "".join(f" {shlex.quote(word)}" for word in options(values))


def _earlier_record(output: OutputDir) -> RunRecord | None:
    """The record of the run that `output` belongs to, where it can still be read."""
    place = output.owner().get("run_dir")
    try:
        return RunDir(Path(place)).read_record() if isinstance(place, str) else None
    except InputError:
        return None


def open_run_dir(logs: Path, record: RunRecord) -> tuple[RunDir, RunRecord]:
    """The folder of the run and its record, written there: a resumed run's own folder, else a new one."""
    place = record.output.owner().get("run_dir") if record.resume else None
    run_dir = RunDir(Path(place)) if isinstance(place, str) and Path(place).is_dir() else None
    if run_dir is None and record.resume and record.run and (logs / record.run).is_dir():
        run_dir = RunDir(logs / record.run)  # ended before it owned its output folder
    if run_dir is None:
        run_dir = create_run_dir(logs, record.preset if record.job == "train" else f"{record.preset}-{record.job}")
    name = run_dir.path.name
    where = "" if logs == DEFAULT_LOGS else f" --logs {shlex.quote(str(logs))}"
    named = replace(record, run=name, resume_option=record.resume_option or f"sft-tui resume {name}{where}")
    try:
        run_dir.write_record(named)
        run_dir.clear_requests()
    except OSError as error:
        why = error.strerror or str(error)
        raise InputError("folder_unwritable", path=str(run_dir.path), why=why, setting="logs") from None
    return run_dir, named


@dataclass(frozen=True)
class Started:
    """A run under way: its folder, its record, the number of this attempt, and its supervisor, our child."""

    run_dir: RunDir
    record: RunRecord
    attempt: int
    supervisor: "subprocess.Popen[bytes]"


def processes_here() -> int:
    """Processes of a run that names no number of them: one for each GPU, or one without."""
    return 1 if gpus.cpu_asked() else max(1, gpus.gpu_count())


def start(logs: Path, record: RunRecord) -> Started:
    """Starts the supervisor of a planned run; raises InputError, or BusyError where its folder is in use.

    The locks are taken here, where the user is told, and passed on: of many starts at once one gets through.
    """
    if not record.processes:
        record = replace(record, processes=processes_here())
    folder = record.output.path
    locks = [FolderLock.acquire(folder, record.run or record.preset, logs)] if record.job == "train" else []
    output = locks[0] if locks else None
    try:
        run_dir, record = open_run_dir(logs, record)
        mine = FolderLock.acquire(run_dir.path, record.run, run_dir.path, "logs")
        locks.append(mine)
        attempt = next_attempt(run_dir.events)
    except InputError:
        for lock in locks:
            lock.abandon()
        raise
    return _launch(run_dir, record, attempt, mine, output)


def _launch(run_dir: RunDir, record: RunRecord, attempt: int, mine: FolderLock, output: FolderLock | None) -> Started:
    env = {**os.environ, environment.RUN_LOCK_FD: str(mine.fd)}
    if output is not None:
        env[environment.LOCK_FD] = str(output.fd)
    locks = [lock for lock in (mine, output) if lock is not None]
    with run_dir.supervisor_output.open("ab") as log:
        supervisor = subprocess.Popen(
            [*COMMAND, str(run_dir.path)],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=[lock.fd for lock in locks],
        )
    for lock in locks:
        lock.sign(supervisor.pid, record.run, run_dir.path)
        lock.release()
    return Started(run_dir, record, attempt, supervisor)
