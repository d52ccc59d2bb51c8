"""The screen of all runs: reads their states in a thread, opens, compares, resumes and deletes."""

import contextlib
import time
from dataclasses import replace
from pathlib import Path

from textual import work
from textual.worker import get_current_worker

from engine.contract.messages import InputError
from engine.contract.texts import Lang, say
from sft_tui import removal, runs, starting
from sft_tui.curves import Curves
from sft_tui.history import Follower
from sft_tui.queue.entries import Queue
from sft_tui.queue.queue_file import QueueFolder
from sft_tui.runs import Run
from sft_tui.screen import actions, queue_view, runs_view
from sft_tui.screen.base import CanvasScreen
from sft_tui.screen.bottom import Question
from sft_tui.screen.charted import STYLES
from sft_tui.screen.ink import Line
from sft_tui.screen.runs_view import RunsView
from sft_tui.text import safe, size

LOOK_SECONDS = 2.0
OF_RUN = ("open", "mark", "resume", "delete", "copy")  # actions on the run under the cursor
MOST_NAMED = 5  # files left by a deletion that are named


class RunsScreen(CanvasScreen):
    """The screen of all runs."""

    scope = actions.RUNS

    def __init__(self) -> None:
        super().__init__()
        self.state = RunsView([])

    def on_mount(self) -> None:
        """Starts reading."""
        self.draw()
        self.look()

    @work(thread=True, exclusive=True, group="runs")
    def look(self) -> None:
        """Reads all runs repeatedly, and the curves of marked ones."""
        worker, logs = get_current_worker(), self.services.options.logs
        known: dict[str, Run] = {}
        followers: dict[str, Follower] = {}
        while not worker.is_cancelled:
            if self.is_current:
                found = list(runs.all_runs(logs, known))
                known = {run.name: run for run in found}
                curves: dict[str, Curves] = {}
                for name in self.state.marked & known.keys():
                    follower = followers.setdefault(name, Follower(known[name].run_dir))
                    with contextlib.suppress(InputError):  # the list says why it cannot be read
                        follower.poll()
                    curves[name] = follower.curves.copy()
                self.app.call_from_thread(self._show_runs, found, curves)
                self.app.call_from_thread(self._show_queue, QueueFolder(logs).look()[0])
            time.sleep(LOOK_SECONDS)

    def _show_queue(self, queue: Queue) -> None:
        words = queue_view.summary(queue, self.services.options.lang)
        if words != self.state.queue:
            self.state = replace(self.state, queue=words)
            self.draw()

    def _show_runs(self, found: list[Run], curves: dict[str, Curves]) -> None:
        cursor = min(self.state.cursor, max(0, len(found) - 1))
        state = replace(self.state, runs=found, curves={**self.state.curves, **curves}, cursor=cursor)
        changed, self.state = state != self.state, state
        if changed and self.is_current:
            self.draw()

    def view(self, width: int, height: int) -> list[Line]:
        """The current state of the screen."""
        return runs_view.draw(
            replace(self.state, ink=self.services.options.ink, lang=self.services.options.lang), width, height
        )

    @property
    def _here(self) -> Run:
        """The run under the cursor; raises InputError if there is none."""
        if not self.state.runs:
            raise InputError("run_none", path=str(self.services.options.logs))
        return self.state.runs[self.state.cursor]

    def why_disabled(self, name: str) -> str:
        """Why an action cannot be carried out on the run under the cursor; empty if it can."""
        lang = self.services.options.lang
        try:
            if name in OF_RUN:
                self._require(name, self._here)
        except InputError as error:
            return error.message.text(lang)
        if name == "mark" and self._is_full:
            return say("screen.compare_few", lang, most=len(STYLES))
        message = starting.why_not_resumable(self._here) if name == "resume" else None
        return message.text(lang) if message is not None else ""

    def _require(self, name: str, run: Run) -> None:
        if name == "resume":
            runs.require_readable(run)
        if name == "delete" and run.alive:
            raise InputError("run_running", run=run.name)

    @property
    def _is_full(self) -> bool:
        """Whether no further run can be compared, and the one under the cursor is not among the compared."""
        return self._here.name not in self.state.marked and len(self.state.marked) >= len(STYLES)

    def move(self, by: int) -> None:
        """Moves the cursor."""
        self.state = replace(self.state, cursor=min(max(0, len(self.state.runs) - 1), max(0, self.state.cursor + by)))

    def clicked(self, _x: int, y: int) -> None:
        """Moves the cursor to the clicked run; a click on the run under the cursor opens it."""
        width, height = self.app.size
        place = runs_view.run_at(self.state, width, height - 1, y)
        if place < 0:
            return
        if place == self.state.cursor:
            self.do_open()
        self.state = replace(self.state, cursor=place)
        self.draw()

    def do_open(self) -> None:
        """Opens the run."""
        self.services.open_run(self._here.name)

    def do_mark(self) -> None:
        """Marks the run, or removes the mark."""
        run = self._here
        self.state = replace(self.state, marked=self.state.marked ^ {run.name})
        if run.name in self.state.marked and run.name not in self.state.curves:
            follower = Follower(run.run_dir)  # its snapshot; later events come with the next read
            self.state = replace(self.state, curves={**self.state.curves, run.name: follower.curves})

    def do_resume(self) -> None:
        """Resumes the run."""
        run = self._here
        self.services.start_run(starting.plan_resume(run.record, {}))

    def do_copy(self) -> None:
        """Copies the path of its folder."""
        self.copy(safe(str(self._here.run_dir.path.absolute())))

    def do_delete(self) -> None:
        """Shows what would be deleted, and asks."""
        run = self._here
        lang, going = self.services.options.lang, removal.of(run)
        places = ", ".join(safe(str(path), 60) for path, _ in going)
        words = say("screen.ask_delete", lang, places=places, size=size(sum(count for _, count in going)))

        def answered(key: str) -> None:
            if key != "y":
                return
            try:
                left = removal.remove(run)
            except InputError as error:
                self.show_notice(error.message.text(lang), "bad")
                return
            others = [one for one in self.state.runs if one.name != run.name]
            self.state = replace(self.state, runs=others, marked=self.state.marked - {run.name})
            self.move(0)
            self.show_notice(say("screen.deleted", lang, run=safe(run.name, 40)) + _leftovers(left, lang))

        self.ask(Question(words, answered))


def _leftovers(left: list[Path], lang: Lang) -> str:
    """What a deletion left because the run did not write it; empty if nothing was left."""
    named = ", ".join(safe(str(path), 60) for path in left[:MOST_NAMED])
    more = f", … ({len(left)})" if len(left) > MOST_NAMED else ""
    return " " + say("screen.delete_left", lang, places=named + more) if left else ""
