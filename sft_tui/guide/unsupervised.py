"""The supervisor's work for a run that a launcher started, done in rank 0: the plain log and the machine readings."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from engine.contract import events
from engine.contract.events import Record
from engine.contract.machine.host import Monitor, Watched
from engine.contract.rundir import RunDir
from engine.contract.texts import Lang
from sft_tui.headless import EventView
from sft_tui.plain_log import PlainLog


class InProcessSupervisor:
    """Shows the events of an attempt as they come, writes the plain log, and takes readings from start to end."""

    def __init__(self, run_dir: RunDir, pids: Sequence[int], disk: Path, view: EventView, lang: Lang) -> None:
        self._run_dir, self._pids, self._disk = run_dir, pids, disk
        self._view: EventView | None = view
        self._log = PlainLog(run_dir.plain_log, lang)
        self._monitor: Monitor | None = None
        self._monitoring = False

    @property
    def why_no_log(self) -> str:
        """Why the plain log cannot be written; empty if it can."""
        return self._log.why

    def show(self, record: Record) -> None:
        """Handles one event; never raises for errors of the terminal or the disk."""
        self._log.show(record)
        if self._view is not None:
            try:
                self._view.show(record)
            except (OSError, ValueError):  # the terminal is gone
                self._view = None
        if not self._monitoring:  # only after the attempt's first event: attempts are counted from the stream
            self._monitoring = True
            with contextlib.suppress(OSError):
                self._monitor = Monitor(self._run_dir.events, record.envelope.attempt, self._pids, Watched(self._disk))
                self._monitor.start()
        if isinstance(record.event, events.RunEnded) and self._monitor is not None:
            self._monitor.stop()
            self._monitor = None

    def close(self) -> None:
        """Restores the terminal; later events are ignored."""
        if self._monitor is not None:
            self._monitor.stop()
        if self._view is not None:
            with contextlib.suppress(OSError, ValueError):
                self._view.close()
        self._log.close()
