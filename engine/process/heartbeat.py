"""A rank's signs of life: heartbeats in the stream, stacks on request, and the detection of its parent's death.

A thread can beat while the rank is stuck, so a heartbeat carries a count of the rank's own progress. A rank that
waits for the others says so: if all but one wait, that one is at fault.
"""

import contextlib
import ctypes
import faulthandler
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from engine.contract import environment
from engine.contract.events import Heartbeat
from engine.contract.files import open_regular
from engine.contract.stream import EventWriter

PR_SET_PDEATHSIG = 1
BEAT_SECONDS = 2.0
WATCH_SECONDS = 0.5
# An orphan saves and ends at the next micro-batch. One that cannot get there is killed after this time.
ORPHAN_SECONDS = 60.0


def end_with(parent: int) -> None:
    """Has the kernel end this process when `parent`, which is waiting for its answer, dies: nothing else would."""
    with contextlib.suppress(OSError, AttributeError):  # not on Linux
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the call above
        os._exit(1)


class RankStatus:
    """What a rank is doing, as seen by its heartbeat thread."""

    def __init__(self) -> None:
        self.phase = "starting"
        self.progress = 0
        self.waiting = False
        self.exchanges = 0  # begun so far: all ranks go through the same ones in one order
        self.longest_exchange = 0.0  # seconds that the largest of them takes, as measured at launch; 0: unknown
        self.gave_up_waiting = False
        self.orphaned = False  # the process that started this rank, and would have stopped it, is dead
        self._parent = parent_to_watch()

    @property
    def parent_died(self) -> bool:
        """Whether the process that must outlive this rank is dead; known at once, before the thread notices."""
        return self.orphaned or (self._parent is not None and os.getppid() != self._parent)

    def mark(self) -> None:
        """Records that the rank has made progress."""
        self.progress += 1

    @contextlib.contextmanager
    def waiting_for_others(self) -> Iterator[None]:
        """Wraps an exchange: code that waits for other ranks and does nothing else."""
        self.exchanges += 1
        self.waiting = True
        try:
            yield
        except BaseException:
            self.gave_up_waiting = True  # most likely another rank has died
            raise
        finally:
            self.waiting = False
            self.mark()

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Wraps work of this rank alone within code that otherwise waits for other ranks."""
        before, self.waiting = self.waiting, False
        try:
            yield
        finally:
            self.waiting = before
            self.mark()


class HeartbeatThread:
    """A thread that writes a rank's heartbeats and watches its parent."""

    def __init__(self, status: RankStatus, log: EventWriter, parent: int | None) -> None:
        self._status, self._log, self._parent = status, log, parent
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def start(self) -> None:
        """Starts the heartbeats."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread and waits for it."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        beat_at, orphaned_at = 0.0, 0.0
        while True:
            now, status = time.monotonic(), self._status
            if now - beat_at >= BEAT_SECONDS:
                beat_at = now
                self._log.write(Heartbeat(status.phase, status.progress, status.waiting, os.getpid()))
            if self._parent is not None and os.getppid() != self._parent:
                orphaned_at = orphaned_at or now
                status.orphaned = True
                if now - orphaned_at > ORPHAN_SECONDS and status.phase != "saving":
                    os._exit(1)
            if self._over.wait(WATCH_SECONDS):
                return


def parent_to_watch() -> int | None:
    """The pid of the process that must outlive this rank, its supervisor or launcher; None if there is neither."""
    if environment.SUPERVISOR in os.environ:
        return int(os.environ[environment.SUPERVISOR])
    return os.getppid() if "WORLD_SIZE" in os.environ else None


def attempt_from_environment() -> int:
    """The number of this attempt, if a supervisor gave it one; else 0."""
    return int(os.environ.get(environment.ATTEMPT, "0"))


def supervisor_died() -> bool:
    """Whether this rank had a supervisor that is now dead; known at once, before the thread notices."""
    return supervised() and os.getppid() != parent_to_watch()


def supervised() -> bool:
    """Whether a supervisor started this rank, and reports how it ends."""
    return environment.SUPERVISOR in os.environ


def write_stacks_on_request(path: Path) -> None:
    """Has SIGUSR1 write the stacks of all threads to `path`, even while the rank is in a call that never returns."""
    faulthandler.enable()  # a crash of native code writes its stacks to the trainer's output
    with contextlib.suppress(OSError):  # the disk may be full
        fd = open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)  # open for as long as this process lives
        faulthandler.register(signal.SIGUSR1, file=fd, all_threads=True, chain=False)
