"""Reads a run in a thread before a screen acts on it: the log of a long run takes a moment."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from textual import work
from textual.worker import get_current_worker

from engine.contract.messages import InputError
from sft_tui.screen.base import ActionScreen

if TYPE_CHECKING:  # the first screen does without it
    from sft_tui.runs import Run


class WithRun(ActionScreen):
    """A screen that acts on runs which it knows by their names."""

    @work(thread=True, exclusive=True, group="run")
    def with_run(self, name: str, act: "Callable[[Run], None]") -> None:
        """Reads a run, then acts on it unless the user does something else by then."""
        from sft_tui import runs

        worker = get_current_worker()
        try:
            found: Run | InputError = runs.read_run(runs.find(self.services.options.logs, name))
        except InputError as error:
            found = error
        if not worker.is_cancelled:
            self.app.call_from_thread(self._act_on, found, act)

    def _act_on(self, found: "Run | InputError", act: "Callable[[Run], None]") -> None:
        if not self.in_front or self.question is not None:
            return
        if isinstance(found, InputError):
            self.show_error(found)
        else:
            self.try_to(lambda: act(found))
