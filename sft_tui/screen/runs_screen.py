"""The screen of all runs: reads their states in a thread, opens, compares, resumes and deletes."""

import contextlib
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from textual import work
from textual.worker import get_current_worker

from engine.contract.messages import InputError
from engine.contract.texts import Lang, say
from sft_tui import lineage, notes, removal, runs, starting
from sft_tui.curves import Curves
from sft_tui.history import Follower
from sft_tui.notes import Note
from sft_tui.queue.entries import Queue
from sft_tui.queue.queue_file import QueueFolder
from sft_tui.run_order import ORDERS
from sft_tui.runs import Run
from sft_tui.screen import actions, compare_view, fix_keys, queue_view, runs_view
from sft_tui.screen.bottom import Question
from sft_tui.screen.chart_screen import ChartScreen
from sft_tui.screen.charted import STYLES, Charted
from sft_tui.screen.ink import Line
from sft_tui.screen.run_actions import RunActions
from sft_tui.screen.runs_contents import RunsView
from sft_tui.text import safe, size

LOOK_SECONDS, WAKE_SECONDS = 2.0, 0.1
OF_RUN = ("open", "mark", "resume", "delete", "copy")  # actions on the run under the cursor
OF_COMPARISON = ("page", "settings")
MOST_NAMED = 5  # files left by a deletion that are named
MOST_FOLLOWED = 64  # runs whose curves are kept


class RunsScreen(RunActions, ChartScreen):
    """The screen of all runs."""

    scope = actions.RUNS

    def __init__(self) -> None:
        super().__init__()
        self.state = RunsView([], read=False)
        self._wanted = threading.Event()  # the curve of another run is wanted
        self._deleted: set[str] = set()  # runs that are being deleted

    def on_mount(self) -> None:
        """Starts reading."""
        self.draw()
        self.look()

    @work(thread=True, exclusive=True, group="runs")
    def look(self) -> None:
        """Reads all runs repeatedly, and the curves of those that are shown as soon as they are wanted."""
        worker, logs = get_current_worker(), self.services.options.logs
        known: dict[str, Run] = {}
        followers: dict[str, Follower] = {}
        looked = -LOOK_SECONDS
        while not worker.is_cancelled:
            due = time.monotonic() - looked >= LOOK_SECONDS
            if self.in_front and (due or self._wanted.is_set()):
                self._wanted.clear()
                if due:
                    looked = time.monotonic()
                    found = list(runs.all_runs(logs, known))
                    known = {run.name: run for run in found}
                    noted = {run.name: notes.read(run.run_dir) for run in found}
                    self.app.call_from_thread(self._show_runs, found, noted, lineage.links(found))
                    self.app.call_from_thread(self._show_queue, QueueFolder(logs).look()[0])
                wanted = [run for run in (*self.state.compared, self.state.here) if run is not None]
                self.app.call_from_thread(self._show_curves, _curves_of(wanted, followers))
            self._wanted.wait(WAKE_SECONDS if self.in_front else LOOK_SECONDS)

    def _show_runs(self, found: list[Run], noted: Mapping[str, Note], links: Mapping[str, list[lineage.Link]]) -> None:
        self._take(self.state.changed(runs=found, read=True, notes=noted, links=links))

    def _show_queue(self, queue: Queue) -> None:
        self._take(replace(self.state, queue=queue_view.summary(queue, self.services.options.lang)))

    def _show_curves(self, curves: Mapping[str, Curves]) -> None:
        self._take(replace(self.state, curves={**self.state.curves, **curves}))

    def _take(self, state: RunsView) -> None:
        changed, self.state = state != self.state, state
        if changed and self.in_front:
            self.draw()

    def view(self, width: int, height: int) -> list[Line]:
        """The current state of the screen."""
        return runs_view.draw(self._shown, width, height)

    @property
    def _shown(self) -> RunsView:
        options = self.services.options
        return replace(self.state, selection=self.selection, ink=options.ink, lang=options.lang)

    def charted(self) -> Charted | None:
        """The curves of the compared runs, or of the one under the cursor."""
        return self.state.charted if self.state.here is not None else None

    def chart_size(self) -> tuple[int, int]:
        """Columns and lines of the chart with its frame; 0 of both if it is not shown."""
        width, height = self.app.size
        return runs_view.chart_size(self._shown, width, height - 1)

    def shown_run(self) -> Run:
        """The run under the cursor; raises InputError if there is none."""
        if self.state.here is None:
            raise InputError("run_none", path=str(self.services.options.logs))
        return self.state.here

    def why_disabled(self, name: str) -> str:
        """Why an action cannot be carried out on the run under the cursor; empty if it can."""
        lang = self.services.options.lang
        try:
            if name in OF_RUN:
                self._require(name, self.shown_run())
        except InputError as error:
            return fix_keys.with_keys(error.message.text(lang))
        if name == "mark" and self._is_full:
            return say("screen.compare_few", lang, most=len(STYLES))
        if name in OF_COMPARISON and not self.state.compared:
            return say("screen.compare_first", lang)
        if name in actions.names(actions.CHART) and not self.chart_size()[0]:
            return say("screen.no_chart" if self.state.compared else "screen.no_curve", lang)
        message = starting.why_not_resumable(self.shown_run()) if name == "resume" else None
        return fix_keys.with_keys(message.text(lang)) if message is not None else super().why_disabled(name)

    def _require(self, name: str, run: Run) -> None:
        if name == "resume":
            runs.require_readable(run)
        if name == "delete" and run.alive:
            raise InputError("run_running", run=run.name)

    @property
    def _is_full(self) -> bool:
        """Whether no further run can be compared, and the one under the cursor is not among the compared."""
        return self.shown_run().name not in self.state.marked and len(self.state.marked) >= len(STYLES)

    def move(self, by: int) -> None:
        """Moves the cursor."""
        self.state = self.state.moved(by)
        self._wanted.set()

    def do_page_up(self) -> None:
        """Scrolls the page of a comparison up, or moves the cursor a page up."""
        self._scroll(-1) if self._most_scrolled else super().do_page_up()

    def do_page_down(self) -> None:
        """Scrolls the page of a comparison down, or moves the cursor a page down."""
        self._scroll(1) if self._most_scrolled else super().do_page_down()

    @property
    def _most_scrolled(self) -> int:
        width, height = self.app.size
        return runs_view.most_scrolled(self._shown, width, height - 1)

    def _scroll(self, pages: int) -> None:
        _, height = self.app.size
        lines = self.state.scrolled + pages * max(1, height // 3)
        self.state = replace(self.state, scrolled=min(max(0, lines), self._most_scrolled))

    def wheeled(self, x: int, y: int, by: int) -> None:
        """Scrolls the comparison under the wheel, or moves the cursor."""
        width, height = self.app.size
        if self.state.compared and y >= runs_view.list_lines(self._shown, width, height - 1) and self._most_scrolled:
            self.state = replace(self.state, scrolled=min(max(0, self.state.scrolled + 3 * by), self._most_scrolled))
            self.draw()
        else:
            super().wheeled(x, y, by)

    def clicked(self, _x: int, y: int) -> None:
        """Moves the cursor to the clicked run; a click on the run under the cursor opens it."""
        width, height = self.app.size
        place = runs_view.run_at(self._shown, width, height - 1, y)
        if place < 0:
            return
        if place == self.state.cursor:
            self.do_open()
        self.move(place - self.state.cursor)
        self.draw()

    def do_open(self) -> None:
        """Opens the run."""
        self.services.open_run(self.shown_run().name)

    def do_mark(self) -> None:
        """Marks the run, or removes the mark."""
        self.state = replace(self.state, marked=self.state.marked ^ {self.shown_run().name}, scrolled=0)
        self._wanted.set()

    def do_order(self) -> None:
        """Sorts the list by the next column."""
        self.state = self.state.changed(order=ORDERS[(ORDERS.index(self.state.order) + 1) % len(ORDERS)])

    def do_page(self) -> None:
        """Shows the next page of the comparison."""
        self.state = replace(self.state, page=compare_view.next_page(self.state.page, self.app.size.width), scrolled=0)

    def do_settings(self) -> None:
        """Shows all settings of the compared runs, or only those that differ."""
        self.state = replace(self.state, whole=not self.state.whole, scrolled=0)

    def do_filter(self) -> None:
        """Asks for words that the runs in the list are to have."""
        lang = self.services.options.lang
        self.ask(Question(say("screen.filter_runs", lang), self._filtered, typed=self.state.filter))

    def _filtered(self, words: str) -> None:
        self.state = self.state.changed(filter=words.strip())
        self._wanted.set()

    def do_back(self) -> None:
        """Hides the cursor of the chart, then shows all runs again if they are filtered, then leaves this screen."""
        if self.state.filter and not self.cursor_shown:
            self._filtered("")
        else:
            super().do_back()

    def do_resume(self) -> None:
        """Resumes the run."""
        run = self.shown_run()
        self.services.start_run(starting.plan_resume(run.record, {}))

    def do_copy(self) -> None:
        """Copies the path of its folder."""
        self.copy(safe(str(self.shown_run().run_dir.path.absolute())))

    def do_delete(self) -> None:
        """Asks at once, and shows what would be deleted as soon as it is found."""
        run = self.shown_run()
        if run.name in self._deleted:
            self._show_deleting(run.name)
            return

        def answered(key: str) -> None:
            if key == "y":
                self._deleted.add(run.name)
                self._show_deleting(run.name)
                self.delete(run)

        words = say("screen.ask_delete", self.services.options.lang, places=safe(str(run.run_dir.path), 60), size="…")
        question = Question(words, answered)
        self.ask(question)
        self.find_files(run, question)

    @work(thread=True, exclusive=True, group="files")
    def find_files(self, run: Run, question: Question) -> None:
        """Finds out what would be deleted, and shows it in the question."""
        worker, going = get_current_worker(), removal.of(run)
        if not worker.is_cancelled:
            self.app.call_from_thread(self._show_files, question, going)

    def _show_files(self, question: Question, going: list[tuple[Path, int]]) -> None:
        places = ", ".join(safe(str(path), 60) for path, _ in going)
        amount = size(sum(count for _, count in going))
        question.text = say("screen.ask_delete", self.services.options.lang, places=places, size=amount)
        if self.in_front:
            self.draw()

    def _show_deleting(self, name: str) -> None:
        self.show_notice(say("screen.deleting", self.services.options.lang, run=safe(name, 40)))

    @work(thread=True, group="deletion")
    def delete(self, run: Run) -> None:
        """Deletes a run, which may take a while."""
        try:
            left: list[Path] | InputError = removal.remove(run)
        except InputError as error:
            left = error
        self.app.call_from_thread(self._show_deleted, run.name, left)

    def _show_deleted(self, name: str, left: list[Path] | InputError) -> None:
        self._deleted.discard(name)
        lang = self.services.options.lang
        if isinstance(left, InputError):
            self.services.notify_here(left.message.text(lang), "bad")
            return
        others = [one for one in self.state.runs if one.name != name]
        self.state = self.state.changed(runs=others, marked=self.state.marked - {name})
        self.services.notify_here(say("screen.deleted", lang, run=safe(name, 40)) + _leftovers(left, lang))


def _curves_of(found: list[Run], followers: dict[str, Follower]) -> dict[str, Curves]:
    """The curves of runs as of now, by followers that are kept for the next time."""
    if len(followers) > MOST_FOLLOWED:
        followers.clear()
    curves: dict[str, Curves] = {}
    for run in found:
        with contextlib.suppress(InputError):  # the list says why it cannot be read
            follower = followers.get(run.name) or followers.setdefault(run.name, Follower(run.run_dir))
            follower.poll()
            curves[run.name] = follower.curves.copy()
    return curves


def _leftovers(left: list[Path], lang: Lang) -> str:
    """What a deletion left because the run did not write it; empty if nothing was left."""
    named = ", ".join(safe(str(path), 60) for path in left[:MOST_NAMED])
    more = f", … ({len(left)})" if len(left) > MOST_NAMED else ""
    return " " + say("screen.delete_left", lang, places=named + more) if left else ""
