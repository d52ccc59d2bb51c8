"""The runs in a folder of logs: their list, their states, and requests to them."""

import contextlib
import difflib
import os
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil

from engine.contract import certificate
from engine.contract.bounds import as_json
from engine.contract.events import Eval, RunEnded
from engine.contract.files import read_end
from engine.contract.locks import FolderLock, Holder, holder_of, is_locked, lives_elsewhere, shares_lock
from engine.contract.merged_stream import newest_has_ended
from engine.contract.messages import BusyError, InputError, Value
from engine.contract.outputdir import OutputDir
from engine.contract.processes import ProcessId, boot_id, read_processes
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir
from engine.contract.scores import all_measures
from engine.contract.stream import EventWriter
from engine.contract.texts import language
from sft_tui import notes, text
from sft_tui.history import Follower
from sft_tui.plain_log import PlainLog, complete
from sft_tui.run_state import RunState

PAUSED, UNREADABLE, PREPARED = "paused", "unreadable", "prepared"
LAST_BYTES = 2000  # of a supervisor's output
BEATING_SECONDS = 15.0  # a rank beats every two, and its file may come over a network


@dataclass(frozen=True)
class Run:
    """One run as of now."""

    run_dir: RunDir
    record: RunRecord
    state: RunState
    alive: bool  # at least one of its processes exists
    log_bytes: int = 0  # of its log when the state was read
    output: OutputDir | None = None  # the current folder of its checkpoints and model; None if there are none

    @property
    def name(self) -> str:
        """The name of the run, which is that of its folder."""
        return self.run_dir.path.name

    @property
    def status(self) -> str:
        """One word: starting, running, stopping, pausing, finishing, or how it ended."""
        if not self.alive:
            begun = PREPARED if self.record.launch.launcher else "starting"
            return self.state.ended.reason if self.state.ended else begun
        asked = self.run_dir.stop_requested()
        if asked:
            return "pausing" if asked == "pause" else "stopping"
        if self.state.ended is not None and _newest_attempt(self.run_dir, self.state) == self.state.attempt:
            return "finishing"  # its end is written, and its processes are about to exit
        return "running" if self.state.under_way and not self.state.ended else "starting"

    def to_json(self) -> dict[str, Any]:
        """What `status --json` prints; times in seconds, None for unknown values."""
        state, step, note = self.state, self.state.step, notes.read(self.run_dir)
        return {
            "run": self.name,
            "preset": self.record.preset,
            "job": self.record.job,
            "status": self.status,
            "alive": self.alive,
            "attempt": state.attempt,
            "phase": state.phase.name if self.alive else None,
            "waits_for": state.awaited.what() if state.awaited and self.alive else None,
            "epoch": step.epoch if step else None,
            "epochs": state.epochs or None,
            "step": step.step if step else None,
            "steps_total": step.steps_total if step else None,
            "train_loss": step.loss if step else None,  # of that step only
            "eval_loss": state.evaluation.loss if state.evaluation else None,
            "eval_bleu": state.evaluation.bleu if state.evaluation else None,
            "eval_scores": _scores(state.evaluation),
            "best_by": state.best.best_by if state.best else None,
            "best_epoch": (state.best.epoch or None) if state.best else None,  # a test has none
            "best_loss": state.best.loss if state.best else None,
            "best_bleu": state.best.bleu if state.best else None,
            "best_scores": _scores(state.best),
            "bleu_signature": state.best.signature if state.best else None,
            "checkpoint": state.checkpoint.step if state.checkpoint else None,
            "seconds_left": state.seconds_left if self.alive else None,
            "memory_of_ranks": state.memory_of_ranks if state.host and self.alive else None,
            "started": state.began_at or None,
            "last_event": state.last_at or None,
            "ended": state.ended.message.what() if state.ended and not self.alive else None,
            "fix": state.ended.message.fix() if state.ended and not self.alive else None,
            "exit_code": state.ended.exit_code if state.ended and not self.alive else None,
            "based_on": self.record.based_on or None,
            "note": note.text or None,
            "tags": note.tags,
            "folder": str(self.run_dir.path),
            "model": str(self.output.best) if self.output and self.output.best.is_dir() else None,
        }


def _scores(found: Eval | None) -> dict[str, Any] | None:
    """Every measure of an evaluation, with its signature."""
    return as_json(all_measures(found)) if found else None


def find(logs: Path, name: str | None) -> RunDir:
    """The run with that name or in that folder, or the newest one; raises InputError."""
    known = _folders(logs)
    if name is None:
        if not known:
            raise InputError("run_none", path=str(logs))
        return known[0]
    places = [RunDir(logs / name), RunDir(Path(os.path.abspath(name)))]
    for run_dir in reversed(places) if os.sep in name else places:  # with a separator it is a path
        if _dated(run_dir.path) is not None:
            return run_dir
    names = [run_dir.path.name for run_dir in known]
    if not names:
        raise InputError("run_none", path=str(logs))
    near = difflib.get_close_matches(name, names, n=3)
    shown = ", ".join(near or names[:3])
    raise InputError("run_unknown" if near else "run_unlike", name=name, path=str(logs), known=shown)


def names(logs: Path) -> list[str]:
    """The names of all runs, the most recently started or resumed first."""
    return [run_dir.path.name for run_dir in _folders(logs)]


def others_running(logs: Path, but: RunDir) -> list[str]:
    """The names of the other runs that are alive."""
    found = []
    for run_dir in _folders(logs):
        with contextlib.suppress(InputError):
            if run_dir != but and lives(run_dir, run_dir.read_record()):
                found.append(run_dir.path.name)
    return found


def model_of(run: Run) -> OutputDir:
    """The folder of a run's best model, or of the model that a test evaluated; raises InputError if there is none."""
    output = run.output if run.record.job == "train" else run.record.output
    if output is None or not output.best.is_dir():
        raise InputError("run_no_model", run=run.name, path=str((output or run.record.output).best))
    return output


def require_readable(run: Run) -> None:
    """Raises InputError with the reason if the run cannot be read."""
    end = run.state.ended
    if end is not None and end.reason == UNREADABLE:
        raise InputError(end.message.code, **end.message.args)


def exist(logs: Path) -> bool:
    """Whether there is any run here; reads no log."""
    return bool(_folders(logs))


def all_runs(logs: Path, known: Mapping[str, Run] = MappingProxyType({})) -> Iterator[Run]:
    """All runs, newest first; a run that cannot be read has the reason as its end.

    The logs of runs `known` to have ended, and unchanged since, are not read again.
    """
    for run_dir in _folders(logs):
        before = known.get(run_dir.path.name)
        if before is not None and not before.alive and before.log_bytes == log_bytes(run_dir):
            yield located(before)
            continue
        try:
            yield read_run(run_dir)
        except InputError as error:
            yield _unreadable(run_dir, error)


def _unreadable(run_dir: RunDir, error: InputError) -> Run:
    """A run that cannot be read, with the reason."""
    record = RunRecord(run_dir.path.name, "-", "", {"output_dir": os.devnull})
    end = RunEnded(UNREADABLE, error.exit_code, error.message)
    return Run(run_dir, record, RunState(ended=end), alive=False, log_bytes=-1)


def log_bytes(run_dir: RunDir) -> int:
    """The size of a run's log; 0 if there is none."""
    try:
        return run_dir.events.stat().st_size
    except OSError:
        return 0


def _folders(logs: Path) -> list[RunDir]:
    """The runs' folders, the most recently started or resumed first."""
    try:
        dated = [(_dated(path), path.name, path) for path in logs.iterdir()]
    except OSError:
        return []
    known = sorted(((at, name, path) for at, name, path in dated if at is not None), reverse=True)
    return [RunDir(path) for _, _, path in known]


def _dated(folder: Path) -> int | None:
    """When the record in a folder was written; None if there is none, the folder's time if it may not be read."""
    try:
        return RunDir(folder).record.lstat().st_mtime_ns
    except PermissionError:
        return folder.lstat().st_mtime_ns
    except (OSError, ValueError):
        return None


def read_run(run_dir: RunDir) -> Run:
    """A run as it is now; a run that died without a certificate gets it first. Raises InputError."""
    record, written = run_dir.read_record(), log_bytes(run_dir)
    follower = Follower(run_dir)
    follower.poll()
    alive, state = is_alive(run_dir, record), follower.state
    if not alive:
        follower.poll()  # its last events may have been written in between
        state = follower.state
        alive = _is_written(run_dir, record, state)
        if not alive and (follower.is_behind or _has_no_end(run_dir, state)):
            state = _settled(run_dir, record, follower)
    return located(Run(run_dir, record, state, alive, written))


def followed(run_dir: RunDir, follower: Follower) -> Run:
    """A run as it is now, of which `follower` has read what came before; raises InputError."""
    follower.poll()
    record = run_dir.read_record()
    alive = lives(run_dir, record, follower.state)
    return Run(run_dir, record, follower.state, True) if alive else read_run(run_dir)


def located(run: Run) -> Run:
    """The run with the current path of its model, also in the text of its end: another run may have moved it aside."""
    home, end = run.record.output, run.state.ended
    output = home.of_run(run.name, run.record.id)
    if output is None or output == home or end is None:
        return replace(run, output=output)

    def moved(value: Value) -> Value:
        kept = (str(home.best), str(home.checkpoints))
        return f"{output.path}{str(value)[len(str(home.path)) :]}" if str(value).startswith(kept) else value

    args = {name: moved(value) for name, value in end.message.args.items()}
    end = replace(end, message=replace(end.message, args=args))
    return replace(run, output=output, state=replace(run.state, ended=end))


def lives(run_dir: RunDir, record: RunRecord, state: RunState | None = None) -> bool:
    """Whether a run is alive on this machine, or on another whose lock cannot be seen on this one.

    Without a `state` only the ends of its streams are read, and only if something still writes; may raise InputError.
    """
    return is_alive(run_dir, record) or _is_written(run_dir, record, state)


def is_alive(run_dir: RunDir, record: RunRecord) -> bool:
    """Whether the supervisor of a run is alive, or a trainer that outlived it."""
    return is_locked(run_dir.path) or _trains(run_dir, record)


def _is_written(run_dir: RunDir, record: RunRecord, state: RunState | None) -> bool:
    """Whether a run that nothing locks here has no end and is still written on other machines."""
    if state is not None:
        return _has_no_end(run_dir, state) and _others_report(run_dir, record)
    return _others_report(run_dir, record) and not newest_has_ended(run_dir)


def _others_report(run_dir: RunDir, record: RunRecord) -> bool:
    """Whether ranks on other machines still beat: if the first is gone, one of them is about to certify that.

    If the run was locked on another machine, it may also be the lock that cannot be seen on this one.
    """
    if lives_elsewhere(run_dir, _holder(run_dir, record)):
        return True
    with contextlib.suppress(OSError):
        newest = max((path.stat().st_mtime for path in run_dir.other_events()), default=0.0)
        return abs(time.time() - newest) < BEATING_SECONDS
    return False


def _trains(run_dir: RunDir, record: RunRecord) -> bool:
    return bool(_holder_of_output(run_dir, record).pid) and is_locked(record.output.path)


def _holder(run_dir: RunDir, record: RunRecord) -> Holder:
    """Who signed the lock of the run's folder or, if a launcher started it, of its output folder."""
    return _holder_of_output(run_dir, record) if record.launch.launcher else holder_of(run_dir.path)


def _holder_of_output(run_dir: RunDir, record: RunRecord) -> Holder:
    """Who signed the lock of the output folder for this run; an empty Holder if nobody did."""
    holder = holder_of(record.output.path) if record.job == "train" else Holder()
    # Another machine may have the same folder under another path.
    signed = holder.run_dir == str(run_dir.path.absolute()) or (holder.elsewhere and holder.run == run_dir.path.name)
    return holder if signed else Holder()


def _newest_attempt(run_dir: RunDir, state: RunState) -> int:
    """The number of the newest attempt that has begun; it may have written nothing yet."""
    return max(state.attempt, read_processes(run_dir).attempt)


def _has_no_end(run_dir: RunDir, state: RunState) -> bool:
    """Whether the newest attempt has begun without an end; the first one has begun if its lock names a holder."""
    attempt = _newest_attempt(run_dir, state)
    if not attempt:
        return holder_of(run_dir.path).pid != 0
    return state.attempt < attempt or state.ended is None


def _settled(run_dir: RunDir, record: RunRecord, follower: Follower) -> RunState:
    """Completes, once and under the run's lock, what a dead supervisor left undone; returns the new state.

    The plain log gets its missing lines, and the newest attempt its certificate if it has none. If nothing can be
    written (another user's logs, a full disk), the end is only returned.
    """
    holder = _holder(run_dir, record)
    try:
        lock = FolderLock.borrowed(run_dir.path, run_dir.path.name, run_dir.path)
    except BusyError:  # another process is doing it
        return follower.state
    except InputError:
        return _with_end(run_dir, record, follower.state, holder)
    try:
        complete(run_dir, language())
        follower.poll()
        end = _with_end(run_dir, record, follower.state, holder).ended
        if end is not None and _has_no_end(run_dir, follower.state):
            _certify(run_dir, end, follower)
        follower.save()
    except (OSError, InputError):  # of its log, which can no longer be written or read
        pass
    finally:
        lock.release()
    return _with_end(run_dir, record, follower.state, holder)


def _with_end(run_dir: RunDir, record: RunRecord, state: RunState, holder: Holder) -> RunState:
    """The state with the end of an attempt whose processes are all dead; `holder` is who had locked its folder."""
    if not _has_no_end(run_dir, state):
        return state
    restarted = bool(holder.boot) and holder.boot != boot_id() and not holder.elsewhere
    end = _end_of_lost(run_dir, record, state, restarted=restarted)
    return replace(state, attempt=max(1, _newest_attempt(run_dir, state)), ended=end)


def _certify(run_dir: RunDir, end: RunEnded, follower: Follower) -> None:
    """Writes how the newest attempt ended; raises OSError."""
    plain_log = PlainLog(run_dir.plain_log, language())
    try:
        log = EventWriter(run_dir.events, "app", max(1, _newest_attempt(run_dir, follower.state)), plain_log.show)
        log.write(end)
        log.close()
    finally:
        plain_log.close()
    follower.poll()


def _end_of_lost(run_dir: RunDir, record: RunRecord, state: RunState, *, restarted: bool) -> RunEnded:
    """The end of an attempt whose processes are all dead."""
    said = _last_line(run_dir.supervisor_output)
    if not _newest_attempt(run_dir, state) and said and not restarted:  # it could not even begin
        return certificate.unstartable(record, said)
    evidence = {"last_event": state.last_at[:19].replace("T", " ")}
    if state.host is not None:
        evidence["memory_available"] = text.size(state.host.memory_available)
    step = state.step.step if state.step else 0
    return certificate.lost(record, state.phase.name, step, restarted=restarted, evidence=evidence)


def _last_line(path: Path) -> str:
    try:
        lines = read_end(path, LAST_BYTES).decode("utf-8", "replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1] if lines else ""


def stop(run: Run, *, now: bool = False, why: str = "stop") -> None:
    """Asks a run to save and end (`why`: stop or pause), or to end at once; raises InputError if it has ended."""
    if not run.alive:
        raise InputError("run_not_running", run=run.name, status=run.status)
    if run.record.job == "test" and why == "pause":
        raise InputError("run_not_pausable", run=run.name)
    if now and run.record.launch.launcher:
        raise InputError("run_launched", run=run.name)
    ask(run.run_dir, why="now" if now else why)
    if now:
        _end_unsupervised(run.run_dir, run.record.output.path)


def ask(run_dir: RunDir, why: str) -> None:
    """Writes a request to the run's folder: stop, pause or now; raises InputError if it cannot be written."""
    try:
        run_dir.request_now() if why == "now" else run_dir.request_stop(why)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError("folder_unwritable", path=str(run_dir.path), why=reason, setting="logs") from None


def _end_unsupervised(run_dir: RunDir, output: Path) -> None:
    """Ends a run without a supervisor: it outlived its supervisor, or was started without one."""
    processes, holder = read_processes(run_dir), holder_of(run_dir.path).process
    if not is_locked(run_dir.path):
        for rank in processes.ranks:
            _signal(rank, signal.SIGKILL, output)
    elif holder.pid and holder != processes.supervisor:
        ask(run_dir, "stop")
        _signal(holder, signal.SIGTERM, run_dir.path)  # after the request to stop, this signal means "now"


def _signal(process: ProcessId, number: int, locked: Path) -> None:
    """Signals this process, and never a later one with the same pid, if it holds the lock of the folder `locked`."""
    if process.alive() and shares_lock(process, locked):
        with contextlib.suppress(psutil.Error):
            psutil.Process(process.pid).send_signal(number)
