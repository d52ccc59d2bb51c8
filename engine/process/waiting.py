"""What a run says while its ranks have not all met: rank 0 writes it to the stream, every rank prints it."""

import os
import sys

from engine.contract import certificate, events
from engine.contract.harmless import harmless
from engine.contract.locks import FolderLock, busy, is_locked
from engine.contract.rundir import RunDir
from engine.contract.stream import EventWriter, next_attempt
from engine.process.job import StopAskedError
from engine.process.roll_call import Awaited, Pace

PHASE = "meeting"


class Waiting:
    """One rank's time before all have met. What it writes belongs to the attempt that then begins."""

    def __init__(self, run_dir: RunDir) -> None:
        self._run_dir = run_dir
        self._is_main = os.environ.get("RANK", "0") == "0"
        self._pace = Pace()
        self._log: EventWriter | None = None
        self._lock: FolderLock | None = None  # by which viewers see that the run is alive; held until the process ends
        self.attempt = 0

    def report(self, awaited: Awaited) -> None:
        """Says who is waited for; raises StopAskedError if the run was asked to stop, InputError if it runs already."""
        asked = self._run_dir.stop_requested()
        if asked:
            raise StopAskedError(certificate.stopped_early(self._run_dir.read_record(), PHASE))
        if not self._pace.due(awaited):
            return
        print(harmless(awaited.message().text()), file=sys.stderr, flush=True)
        if self._is_main:
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
            record, folder = self._run_dir.read_record(), self._run_dir.path
            if is_locked(record.output.path):
                raise busy(record.output.path)
            self._lock = FolderLock.acquire(folder, record.run, folder, "logs")
            self.attempt = next_attempt(self._run_dir.events)
            self._log = EventWriter(self._run_dir.events, "rank0", self.attempt)
        return self._log
