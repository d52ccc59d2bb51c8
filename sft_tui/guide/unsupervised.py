"""The supervisor's work for a run that a launcher started, done in rank 0: the plain log, and the terminal's view."""

import contextlib

from engine.contract.events import Record
from engine.contract.rundir import RunDir
from engine.contract.texts import Lang
from sft_tui.headless import EventView
from sft_tui.plain_log import PlainLog


class Attendant:
    """Shows the events of an attempt as they come, and writes the plain log."""

    def __init__(self, run_dir: RunDir, view: EventView, lang: Lang) -> None:
        self._view: EventView | None = view
        self._log = PlainLog(run_dir.plain_log, lang)

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

    def close(self) -> None:
        """Restores the terminal; later events are ignored."""
        if self._view is not None:
            with contextlib.suppress(OSError, ValueError):
                self._view.close()
        self._log.close()
