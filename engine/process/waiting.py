"""What a run says while its ranks have not all met: rank 0 writes it to the stream, every rank prints it."""

import functools
import os
import sys
from collections.abc import Sequence

from engine.contract import certificate, events
from engine.contract.locks import FolderLock, busy, is_locked
from engine.contract.messages import BusyError, for_terminal
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir
from engine.contract.stream import EventWriter, next_attempt
from engine.process import places
from engine.process.heartbeat import supervised
from engine.process.job import StopAskedError
from engine.process.roll_call import Awaited, Pace

PHASE = "meeting"


class Waiting:
    """One rank's time before all have met. What it writes belongs to the attempt that then begins."""

    def __init__(self, run_dir: RunDir) -> None:
        self._run_dir = run_dir
        self.is_main = places.rank_of(os.environ) == 0
        self._pace = Pace()
        self._log: EventWriter | None = None
        self._lock: FolderLock | None = None  # by which viewers see that the run is alive; held until the process ends
        self.attempt = 0

    @functools.cached_property
    def record(self) -> RunRecord:
        """The run's record; raises InputError."""
        return self._run_dir.read_record()

    def in_use(self, *, counts_main: bool) -> BusyError | None:
        """The error for a folder of the run that others have locked, if one is; raises InputError of the record.

        `counts_main`: whether the lock of the run's own folder, which rank 0 of this launch may hold, is one of others.
        """
        record, mine = self.record, self._run_dir.path
        if not _takes_locks(record):
            return None
        if is_locked(record.output.path):
            return busy(record.output.path)
        return busy(mine) if counts_main and self._lock is None and is_locked(mine) else None

    def begin(self) -> None:
        """Takes the run's folder on rank 0, as all have met; raises BusyError if the run is at work already."""
        error = self.in_use(counts_main=True)
        if error is not None:
            raise error
        if _takes_locks(self.record):
            self._take()

    def report(self, awaited: Awaited) -> None:
        """Says who is waited for; raises StopAskedError if the run was asked to stop, InputError if it runs already."""
        asked = self._run_dir.stop_requested()
        if asked:
            raise StopAskedError(certificate.stopped_early(self.record, PHASE))
        if not self._pace.due(awaited):
            return
        print(for_terminal(awaited.message()), file=sys.stderr, flush=True)
        if self.is_main and self._run_dir.record.is_file():  # else the others say that they find the run, and where
            log = self._opened()
            log.write(events.Phase(PHASE, awaited.size - len(awaited.missing), awaited.size))
            log.write(events.Notice(awaited.message()))

    def over(self) -> None:
        """Ends the time of waiting: all have met."""
        if self._log is not None:
            self._log.close()

    def ended(self, end: events.RunEnded) -> bool:
        """Whether the stream, begun here, now has this end."""
        begun = self._log is not None
        if self._log is not None:
            self._log.write(end)
        self.over()
        return begun

    def _opened(self) -> EventWriter:
        """The stream of the run, which this process alone may write; raises InputError or OSError."""
        if self._log is None:
            error = self.in_use(counts_main=True)
            if error is not None:
                raise error
            self._take()
            self.attempt = next_attempt(self._run_dir.events)
            self._log = EventWriter(self._run_dir.events, "rank0", self.attempt)
        return self._log

    def _take(self) -> None:
        if self._lock is None:
            folder = self._run_dir.path
            self._lock = FolderLock.acquire(folder, self.record.run, folder, "logs")


def _takes_locks(record: RunRecord) -> bool:
    """Whether the ranks take the locks of a run themselves: a supervisor has them before it starts its ranks."""
    return record.job == "train" and not supervised()


def waits(found: Sequence[events.Event]) -> bool:
    """Whether an attempt that reported these events last still waits for its ranks."""
    phases = [event.name for event in found if isinstance(event, events.Phase)]
    return phases[-1:] == [PHASE] and not any(isinstance(event, events.RunEnded) for event in found)
