"""Owns one attempt of a run, from its start to its certificate: `python -m sft_tui.supervise.supervisor RUN_DIR`.

It runs in its own session without any connection: viewers read the stream and leave files in `control/`. It holds
the lock of the run's folder and, with its ranks, that of the output folder, and exits when no process of the run is
left.
"""

import contextlib
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from engine.contract import environment, events
from engine.contract.events import Record
from engine.contract.files import read_whole
from engine.contract.locks import FolderLock
from engine.contract.machine.driver_log import DriverLog
from engine.contract.machine.host import SAMPLE_SECONDS, Readings, Watched, oom_kills
from engine.contract.messages import BusyError, InputError, Message
from engine.contract.processes import AttemptProcesses, ProcessId, write_processes
from engine.contract.rundir import RunDir
from engine.contract.stop_signals import STOP_SIGNALS, FirstRequest
from engine.contract.stream import EventWriter, next_attempt
from engine.contract.texts import language
from sft_tui.history import Follower
from sft_tui.output import echo
from sft_tui.plain_log import PlainLog, complete
from sft_tui.supervise.notices import Notices
from sft_tui.supervise.ranks import Ranks, adopt_orphans
from sft_tui.supervise.stall import Watch
from sft_tui.supervise.verdict import Facts, judge

TICK_SECONDS = 0.1
SNAPSHOT_SECONDS = 20.0  # half a megabyte for a long run
READINGS_KEPT = 5  # of the host: the ten seconds before an end
NOW_SECONDS = 5.0  # from the request to end at once to killing the ranks
GRACE_SECONDS = 10.0  # for ranks that outlive another one, to write what they saw
STACKS_SECONDS = 2.0


class Supervisor:
    """One attempt of a run."""

    def __init__(self, run_dir: RunDir, run_lock: FolderLock | None, output_lock: FolderLock | None) -> None:
        self.run_dir, self._record = run_dir, run_dir.read_record()
        self.attempt = next_attempt(run_dir.events)
        self._run_lock, self._output_lock = run_lock, output_lock
        complete(run_dir, language())  # lines missing because the previous supervisor was killed
        self._follower = Follower(run_dir)
        self._follower.poll()  # of earlier attempts
        self._log = EventWriter(run_dir.events, "supervisor", self.attempt)
        self._plain_log = PlainLog(run_dir.plain_log, language())
        self._watch = Watch(float(self._record.config.get("hang_seconds", 300.0)))
        self._notices = Notices(run_dir, self._log)
        self._facts = Facts()
        self._readings: deque[events.Host] = deque(maxlen=READINGS_KEPT)
        self._kills_before, self._driver_log = oom_kills(), DriverLog()
        self._asked: FirstRequest | None = None
        self._unwritten = False  # whether a request could not be written, of which ranks that start later must learn
        self._now_at = self._first_end_at = 0.0
        self._sampled_at = self._saved_at = 0.0

    def run(self) -> int:
        """Starts the ranks, watches them until they end, and certifies the end; returns the exit code of the run."""
        self._ranks = Ranks(
            self.run_dir, self._record, self.attempt, self._output_lock.fd if self._output_lock else None
        )
        for number in STOP_SIGNALS:
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        adopt_orphans()
        self._machine = Readings(self._log, Watched(Path(str(self._record.config.get("output_dir", ".")))))
        try:
            self._ranks.start()
            if self._unwritten:
                self._ranks.signal(signal.SIGTERM)
        except OSError as error:
            self._facts.unstartable = error.strerror or str(error)
            self._ranks.signal(signal.SIGKILL)
        self._announce()
        ticked = time.monotonic()
        while self._ranks.running():
            time.sleep(TICK_SECONDS)
            now = time.monotonic()
            self._watch.pass_time(now - ticked)
            ticked = now
            self._tick(now)
        return self._finish()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        again = self._asked is not None and self._asked.repeated()
        self._asked = self._asked or FirstRequest()
        try:
            self.run_dir.request_now() if again else self.run_dir.request_stop()
        except OSError:  # a full disk: a signal means the same to the ranks
            self._unwritten = True
            self._ranks.signal(signal.SIGTERM)

    def _announce(self) -> None:
        """Records the processes of this attempt, for commands that must handle them without the supervisor."""
        if self._plain_log.why:
            path, why = str(self.run_dir.plain_log), self._plain_log.why
            self._log.write(events.Warning(Message.of("plain_log_unwritable", path=path, why=why)))
        mine, *ranks = (ProcessId.of(pid) or ProcessId() for pid in (os.getpid(), *self._ranks.pids))
        with contextlib.suppress(OSError):  # a full disk must not prevent training
            write_processes(self.run_dir, AttemptProcesses(self.attempt, mine, ranks))

    def _tick(self, now: float) -> None:
        self._facts.exits = (*self._facts.exits, *self._ranks.reap())
        self._listen()
        if now - self._sampled_at >= SAMPLE_SECONDS:
            self._sampled_at = now
            self._sample()
            for lock in filter(None, (self._run_lock, self._output_lock)):
                lock.hold()  # in case its file was removed; the rank itself stops if another run took the lock first
        if now - self._saved_at >= SNAPSHOT_SECONDS:
            self._saved_at = now
            self._follower.save()
        self._end_at_once(now)
        self._end_survivors(now)
        self._notices.look(self._watch)
        late = self._watch.overdue()
        if late is not None and self._facts.overdue is None:
            self._facts.overdue = late
            self._take_stacks()
            self._ranks.signal(signal.SIGKILL)

    def _read_events(self) -> list[Record]:
        """The records of this attempt written since the last call, which are also added to the plain log."""
        try:
            found = self._follower.poll()
        except InputError:  # its stream was made unreadable, which must not end a run
            return []
        records = [record for record in found if record.envelope.attempt == self.attempt]
        for record in records:
            self._plain_log.show(record)
        return records

    def _listen(self) -> None:
        """Handles the events that the ranks wrote."""
        for record in self._read_events():
            self._notices.take(record.event)
            source = record.envelope.src
            if not source.startswith("rank"):
                continue
            rank = int(source[4:]) if source[4:].isdigit() else 0
            match record.event:
                case events.Heartbeat() as beat:
                    self._watch.beat(rank, beat.phase, beat.progress, waiting=beat.waiting)
                case events.RankFailed() as failure:
                    self._facts.failures.setdefault(rank, failure)

    def _sample(self) -> None:
        self._readings.append(self._machine.take(self._ranks.pids))

    def _end_at_once(self, now: float) -> None:
        if not self.run_dir.now_request.exists():
            return
        if not self._now_at:
            self._now_at = now
            self._facts.ended_now = True
            self._ranks.signal(signal.SIGTERM)
        elif now - self._now_at > NOW_SECONDS:
            self._ranks.signal(signal.SIGKILL)

    def _end_survivors(self, now: float) -> None:
        """Ends ranks that outlive another one, after time for a last event."""
        if not self._facts.exits:
            return
        self._first_end_at = self._first_end_at or now
        if now - self._first_end_at > GRACE_SECONDS:
            self._ranks.signal(signal.SIGKILL)

    def _take_stacks(self) -> None:
        """Has every rank write its stacks, including suspended ranks, and keeps them as evidence."""
        late = self._facts.overdue
        self._facts.suspended = late is not None and self._ranks.stopped(late.rank)
        ranks = self._ranks.running()
        self._ranks.signal(signal.SIGUSR1, ranks)
        self._ranks.signal(signal.SIGCONT, ranks)
        deadline = time.monotonic() + STACKS_SECONDS
        while time.monotonic() < deadline and not all(_complete(_read(self.run_dir.stacks(rank))) for rank in ranks):
            time.sleep(TICK_SECONDS)
        for rank in ranks:
            self._facts.stacks[f"stacks_rank{rank}"] = (
                _read(self.run_dir.stacks(rank)) or "N/A: the rank did not answer"
            )

    def _finish(self) -> int:
        self._machine.close()
        self._ranks.clean_up(spared=[*self._machine.unreaped(), *self._notices.pids])
        if self._output_lock is not None and self._output_lock.hold():  # a rank may have been killed during a save
            with contextlib.suppress(OSError):
                self._record.output.remove_staged()
        self._listen()
        self._facts.state = self._follower.state
        self._facts.readings = tuple(self._readings)
        self._facts.oom_kills = max(0, oom_kills() - self._kills_before)
        self._facts.xids = self._driver_log.xids() if self._follower.state.gpus else ()
        self._facts.stop_asked = bool(self.run_dir.stop_requested())
        state = self._follower.state
        end = state.ended if state.attempt == self.attempt else None
        if end is None:
            end = judge(self.run_dir, self._record, self._facts)
            self._log.write(end)
            self._read_events()
        self._follower.save()
        self._log.close()
        self._plain_log.close()
        self._driver_log.close()
        if not self.refused_at_once:
            self._notices.end(end)
        return end.exit_code

    @property
    def finished(self) -> bool:
        """Whether the run has finished its work."""
        end = self._follower.state.ended
        return end is not None and end.reason == "finished"

    @property
    def refused_at_once(self) -> bool:
        """Whether the first attempt was refused, so that nothing of the run needs to be kept."""
        end = self._follower.state.ended
        return self.attempt == 1 and end is not None and end.reason in ("refused", "busy")


def _read(path: Path) -> str:
    try:
        return read_whole(path).decode("utf-8", "replace")
    except OSError:
        return ""


def _complete(stacks: str) -> bool:
    """Whether a dump of all threads is complete: the main thread comes last, and its stack begins in a module."""
    return stacks.endswith(("in <module>\n", "in _run_module_as_main\n"))


def main(path: Path) -> int:
    """Supervises one attempt of the run in the folder `path`; returns the exit code of the run."""
    run_dir = RunDir(path)
    run, output = _locks(run_dir)
    supervisor = Supervisor(run_dir, run, output)
    following = continuation(run_dir)
    code = supervisor.run()
    if output is not None:
        output.abandon() if supervisor.refused_at_once else output.release()
    if following is not None and supervisor.finished:
        start_next(following, run_dir, supervisor.attempt)
    return code


def _locks(run_dir: RunDir) -> tuple[FolderLock | None, FolderLock | None]:
    """The locks that the starting process took and passed on: of the run's folder and of the output folder."""
    record = run_dir.read_record()
    made = int(os.environ.pop(environment.LOCK_MADE, "0"))
    found: list[FolderLock | None] = []
    for name, folder, its in (
        (environment.RUN_LOCK_FD, run_dir.path, 0),
        (environment.LOCK_FD, record.output.path, made),
    ):
        fd = os.environ.pop(name, "")
        if fd:
            os.set_inheritable(int(fd), False)  # the ranks get only the lock they need
        found.append(FolderLock.inherited(folder, int(fd), record.run, run_dir.path, its) if fd else None)
    return found[0], found[1]


def continuation(run_dir: RunDir) -> Callable[[RunDir], None] | None:
    """The function that starts the demo's second half; loaded at the beginning, like the ranks' own code."""
    if not run_dir.read_record().continued:
        return None
    from sft_tui import demo  # only the demo needs it

    return demo.continue_after


def start_next(start: Callable[[RunDir], None], run_dir: RunDir, attempt: int) -> None:
    """Starts what follows a run, with or without a viewer; an error is written to the run's own log."""
    try:
        start(run_dir)
    except BusyError:  # another process was first
        pass
    except InputError as error:
        log = EventWriter(run_dir.events, "supervisor", attempt)
        log.write(events.Warning(error.message))
        log.close()


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1])))
    except InputError as fault:
        echo(str(fault), err=True)
        sys.exit(fault.exit_code)
    except OSError as fault:
        echo(f"{fault.filename}: {fault.strerror}", err=True)
        sys.exit(1)
