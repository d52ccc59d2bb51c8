"""The screen of the rows that made a step's loss: a thread reads them, a process of the engine weighs their tokens."""

import queue
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from textual import work
from textual.worker import Worker, get_current_worker

from engine.contract.leave_out import leave_out_path, read_leave_out
from engine.contract.messages import InputError
from engine.contract.row_losses import RowLoss, StepRows, steps_of
from engine.contract.rundir import RunDir
from engine.contract.texts import say
from sft_tui import leaving_out, runs, step_rows
from sft_tui.screen import actions, rows_view
from sft_tui.screen.base import PAGE_LINES, CanvasScreen
from sft_tui.screen.ink import Line
from sft_tui.screen.rows_view import RowsView
from sft_tui.text import safe
from sft_tui.weighing import Weigher

WAIT_SECONDS = 0.2
OF_ROW = ("leave_out", "copy")  # actions on the row under the cursor


class Wish(NamedTuple):
    """What the thread is asked for: how some rows begin, and the losses of one of them."""

    rows: Sequence[RowLoss]
    row: RowLoss | None


class RowsScreen(CanvasScreen):
    """The rows of a step, or of the kept steps from one to another."""

    scope = actions.ROWS

    def __init__(self, run: str, step: int, last: int = 0) -> None:
        super().__init__()
        self.run_name, self.step, self.last = run, step, last
        self.state = RowsView()
        self.kept: list[StepRows] = []
        self.train_file = Path()
        self._wishes: queue.SimpleQueue[Wish] = queue.SimpleQueue()
        self._weigher: Weigher | None = None
        self._changing = threading.Lock()  # the list of rows that are left out
        self.over = False  # the process has ended, and rows that it has not weighed stay as they are

    def on_mount(self) -> None:
        """Starts reading."""
        self.state = replace(self.state, doing=say("rows.reading", self.services.options.lang))
        self.draw()
        self.serve()

    def on_unmount(self) -> None:
        """Ends the process that weighs."""
        if self._weigher is not None:
            self._weigher.kill()

    # In the thread

    @work(thread=True, exclusive=True, group="rows")
    def serve(self) -> None:
        """Reads the steps, then answers wishes until the screen is closed."""
        worker = get_current_worker()
        try:
            run = runs.read_run(runs.find(self.services.options.logs, self.run_name))
            kept = steps_of(run.run_dir)
            steps = step_rows.require_kept(run.name, kept, self.step, self.last)
            train_file = Path(str(run.record.config.get("train_file", "")))
        except InputError as error:
            self._pass_on(worker, self._show_why, error)
            return
        self._pass_on(worker, self._show_steps, kept, steps, train_file)
        try:
            with Weigher(run) as weigher:
                self._weigher = weigher
                while not worker.is_cancelled:
                    self._grant(worker, weigher)
        except InputError as error:
            self.over = True
            self._pass_on(worker, self._show_why, error)

    def _grant(self, worker: "Worker[None]", weigher: Weigher) -> None:
        """Answers the newest wish, if there is one."""
        try:
            wish = self._wishes.get(timeout=WAIT_SECONDS)
            while not self._wishes.empty():
                wish = self._wishes.get()
        except queue.Empty:
            return
        missing = [row for row in wish.rows if row.sample not in self.state.begun]
        try:
            if missing:
                self._pass_on(worker, self._show_found, begun=weigher.beginnings(missing))
            if wish.row is not None and wish.row.sample not in self.state.weighed and self._wishes.empty():
                found = weigher.weigh(wish.row)
                self._pass_on(worker, self._show_found, weighed={found.sample: found})
        except InputError as error:
            if error.message.code.startswith("reader_"):
                raise  # the process is gone
            self._pass_on(worker, self._show_why, error)

    def _pass_on(self, worker: "Worker[None]", show: Any, *what: Any, **more: Any) -> None:
        if not worker.is_cancelled and self.app.is_running:
            self.app.call_from_thread(show, *what, **more)

    # In the app

    def _show_steps(self, kept: list[StepRows], steps: list[StepRows], train_file: Path) -> None:
        self.kept, self.train_file = kept, train_file
        self._choose(steps)

    def _choose(self, steps: Sequence[StepRows]) -> None:
        """Shows other steps."""
        rows = step_rows.shared(steps)
        doing = say("rows.reading", self.services.options.lang)
        self.state = replace(self.state, steps=steps, rows=rows, cursor=0, scroll=0, why=self._lasting, doing=doing)
        self.look_at_list()
        self._wish()

    @property
    def _lasting(self) -> str:
        """Why no row can be weighed any more; empty if that was only about one."""
        return self.state.why if self.over else ""

    @work(thread=True, group="leaving_out")
    def look_at_list(self) -> None:
        """Reads which rows are left out."""
        with self._changing:
            self._read_list(get_current_worker())

    def _read_list(self, worker: "Worker[None]") -> None:
        """Shows which rows are left out, from a thread that keeps the others from changing it meanwhile."""
        try:
            found = frozenset(read_leave_out(self.train_file).digests)
        except InputError as error:
            self._pass_on(worker, self.show_notice, error.message.text(self.services.options.lang), "bad")
        else:
            self._pass_on(worker, self._show_list, found)

    def _show_list(self, found: frozenset[int]) -> None:
        self.state = replace(self.state, left_out=found)
        self.draw()

    def _wish(self) -> None:
        """Asks the thread for what is not known yet of the rows and the one under the cursor."""
        one = self.state.here
        self._wishes.put(Wish([each.row for each in self.state.rows], None if one is None else one.row))
        self.draw()

    def _show_found(self, begun: Any = None, weighed: Any = None) -> None:
        state = self.state
        doing = say("rows.weighing", self.services.options.lang)
        self.state = replace(
            state, begun={**state.begun, **(begun or {})}, weighed={**state.weighed, **(weighed or {})}, doing=doing
        )
        self.draw()

    def _show_why(self, error: InputError) -> None:
        self.state = replace(self.state, why=error.message.text(self.services.options.lang), doing="")
        self.draw()

    def view(self, width: int, height: int) -> list[Line]:
        """The current state of the screen."""
        return rows_view.draw(self._current(), width, height)

    def _current(self) -> RowsView:
        return replace(self.state, ink=self.services.options.ink, lang=self.services.options.lang)

    def why_disabled(self, name: str) -> str:
        """Why an action cannot be carried out: without rows, those on a row have nothing to act on."""
        unread = name == "copy" and not rows_view.copied(self.state)
        if unread or (name in OF_ROW and self.state.here is None):
            return self.state.why or self.state.doing
        return ""

    def move(self, by: int) -> None:
        """Moves the cursor through the rows."""
        cursor = max(0, min(self.state.cursor + by, len(self.state.rows) - 1))
        if cursor != self.state.cursor:
            self.state = replace(self.state, cursor=cursor, scroll=0, why=self._lasting)
            self._wish()

    def do_page_up(self) -> None:
        """Scrolls the text of the row up."""
        self._scroll(-PAGE_LINES)

    def do_page_down(self) -> None:
        """Scrolls the text of the row down."""
        self._scroll(PAGE_LINES)

    def _scroll(self, by: int) -> None:
        width, height = self.app.size
        most = rows_view.most_scroll(self._current(), width, height - 1)
        self.state = replace(self.state, scroll=max(0, min(self.state.scroll + by, most)))
        self.draw()

    def clicked(self, x: int, y: int) -> None:
        """Selects the row that was clicked."""
        width, height = self.app.size
        place = rows_view.row_at(self.state, width, height - 1, x, y)
        if place >= 0:
            self.move(place - self.state.cursor)

    def do_previous_step(self) -> None:
        """Shows the kept step before this one."""
        self._go(-1)

    def do_next_step(self) -> None:
        """Shows the kept step after this one."""
        self._go(1)

    def do_spike(self) -> None:
        """Shows the next step whose loss jumped, or the first one after the last."""
        self._go(1, spikes=True)

    def _go(self, by: int, *, spikes: bool = False) -> None:
        """Shows another kept step; after the newest that is known, looks whether the run has made more."""
        if not self.state.steps:
            return
        found = self._following(by, spikes=spikes)
        if found:
            self._choose(step_rows.chosen(self.kept, found))
        elif by > 0:
            self.look_again(spikes)
        else:
            self.show_notice(say("rows.no_other", self.services.options.lang))

    def _following(self, by: int, *, spikes: bool) -> int:
        """The kept step to go to; 0 if there is none."""
        step = self.state.steps[0 if by < 0 else -1].step
        found = step_rows.neighbour(self.kept, step, by, spikes=spikes)
        if spikes and found == step:
            found = step_rows.neighbour(self.kept, 0, by, spikes=True)
        return 0 if found == step else found

    @work(thread=True, exclusive=True, group="look")
    def look_again(self, spikes: bool) -> None:
        """Reads the steps that a run has kept by now."""
        kept = steps_of(RunDir(self.services.options.logs / self.run_name))
        self._pass_on(get_current_worker(), self._show_more, kept, spikes)

    def _show_more(self, kept: list[StepRows], spikes: bool) -> None:
        self.kept = kept
        found = self._following(1, spikes=spikes)
        if found:
            self._choose(step_rows.chosen(self.kept, found))
            return
        self.show_notice(say("rows.no_spike" if spikes else "rows.no_other", self.services.options.lang))

    def do_leave_out(self) -> None:
        """Leaves the row out of the next run, or takes it back."""
        if self.state.here is not None:
            self.change_list(self.state.here.row.row)

    @work(thread=True, group="leaving_out")
    def change_list(self, row: int) -> None:
        """Adds a row to the list, or takes it off, in a thread: the row is read for its digest."""
        worker, lang = get_current_worker(), self.services.options.lang
        file = safe(str(leave_out_path(self.train_file)), 200)
        with self._changing:  # a key may be pressed before the one before it has been carried out
            try:
                out = row not in read_leave_out(self.train_file).digests
                if out:
                    leaving_out.leave_out(self.train_file, [row])
                else:
                    leaving_out.take_back(self.train_file, [row])
                words, role = say("rows.leaving_out" if out else "rows.taken_back", lang, row=row, file=file), "accent"
            except InputError as error:
                words, role = error.message.text(lang), "bad"
            self._read_list(worker)
        self._pass_on(worker, self.show_notice, words, role)

    def do_copy(self) -> None:
        """Copies the text of the row."""
        self.copy(rows_view.copied(self.state))
