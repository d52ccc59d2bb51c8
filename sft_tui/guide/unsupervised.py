"""What a supervisor does for a run, done in rank 0 of one that a launcher started: its plain log and its readings."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from engine.contract import events
from engine.contract.events import Record
from engine.contract.messages import Lang
from engine.contract.rundir import RunDir
from sft_tui.headless import EventView
from sft_tui.machine.host import Monitor
from sft_tui.plain_log import PlainLog


class Attendant:
    """Shows the events of an attempt as they come, writes the plain log, and takes readings from first to last."""

    def __init__(self, run_dir: RunDir, pids: Sequence[int], disk: Path, view: EventView, lang: Lang) -> None:
        self._run_dir, self._pids, self._disk = run_dir, pids, disk
        self._view: EventView | None = view
        self._log = PlainLog(run_dir.plain_log, lang)
        self._monitor: Monitor | None = None
        self._attended = False

    @property
    def why_no_log(self) -> str:
        """Why the plain log cannot be written; empty where it can."""
        return self._log.why

    def show(self, record: Record) -> None:
        """Takes in one more event; never raises for what becomes of terminal or disk."""
        self._log.show(record)
        if self._view is not None:
            try:
                self._view.show(record)
            except (OSError, ValueError):  # its terminal is gone
                self._view = None
        if not self._attended:  # not before the attempt's first event: attempts are counted by what is in the stream
            self._attended = True
            with contextlib.suppress(OSError):
                self._monitor = Monitor(self._run_dir.events, record.envelope.attempt, self._pids, self._disk)
                self._monitor.start()
        if isinstance(record.event, events.RunEnded) and self._monitor is not None:
            self._monitor.stop()
            self._monitor = None

    def close(self) -> None:
        """Leaves the terminal in order; nothing is taken in any more."""
        if self._monitor is not None:
            self._monitor.stop()
        if self._view is not None:
            with contextlib.suppress(OSError, ValueError):
                self._view.close()
        self._log.close()
