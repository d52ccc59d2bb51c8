"""The screen of the queue: reads it in a thread, reorders, removes, pauses, and opens its runs."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from textual import work
from textual.worker import get_current_worker

from engine.contract.messages import InputError, Message
from engine.contract.rundir import RunDir
from engine.contract.texts import Lang, say
from sft_tui import listing, runs
from sft_tui.queue import entries, queue_process
from sft_tui.queue.entries import Entry, Queue
from sft_tui.queue.queue_file import QueueFolder
from sft_tui.screen import actions, queue_view
from sft_tui.screen.base import CanvasScreen
from sft_tui.screen.bottom import Question
from sft_tui.screen.ink import Line
from sft_tui.screen.queue_view import QueueView
from sft_tui.text import safe

OF_ENTRY = ("open", "earlier", "later", "delete", "settings")  # actions on the entry under the cursor


class QueueScreen(CanvasScreen):
    """The screen of the queue."""

    scope = actions.QUEUE

    def __init__(self) -> None:
        super().__init__()
        self.state = QueueView()

    @property
    def folder(self) -> QueueFolder:
        """The queue of the runs that the screen shows."""
        return QueueFolder(self.services.options.logs)

    def on_mount(self) -> None:
        """Starts reading."""
        self.draw()
        self.look()

    @work(thread=True, exclusive=True, group="queue")
    def look(self) -> None:
        """Reads the queue repeatedly; starts its process once if that was killed."""
        worker, folder, lang = get_current_worker(), self.folder, self.services.options.lang
        tried = False
        while not worker.is_cancelled:
            if self.in_front:
                queue, wrong = folder.look()
                if not tried and not wrong and queue_process.is_due(folder, queue):
                    tried = True
                    self.app.call_from_thread(self.show_notice, *_restarted(folder, queue, lang))
                self.app.call_from_thread(self._show, queue, wrong, folder.runs, self._progress(queue))
            time.sleep(self.services.options.tick)

    def _progress(self, queue: Queue) -> str:
        """The state of the running run, on a line; empty if there is none."""
        active = queue.active
        if active is None or not active.run:
            return ""
        try:
            one = runs.read_run(RunDir(self.services.options.logs / active.run))
            return listing.status_line(one, self.services.options.lang)
        except InputError:
            return active.run

    def _show(self, queue: Queue, wrong: Sequence[Message], alive: bool, progress: str) -> None:
        chosen = self.state.chosen if any(one.number == self.state.chosen for one in queue.entries) else 0
        if not chosen and queue.entries:
            place = min(self.state.cursor, len(queue.entries) - 1)
            first = queue.active or next(iter(queue.waiting), queue.entries[place])
            chosen = queue.entries[place].number if self.state.queue.entries else first.number
        state = replace(self.state, queue=queue, wrong=tuple(wrong), alive=alive, progress=progress, chosen=chosen)
        changed, self.state = state != self.state, state
        if changed and self.in_front:
            self.draw()

    def view(self, width: int, height: int) -> list[Line]:
        """The current state of the screen."""
        options = self.services.options
        return queue_view.draw(replace(self.state, ink=options.ink, lang=options.lang), width, height)

    @property
    def _here(self) -> Entry:
        """The entry under the cursor; raises InputError if there is none."""
        if self.state.here is None:
            raise InputError("queue_empty")
        return self.state.here

    def why_disabled(self, name: str) -> str:
        """Why an action cannot be carried out on the entry under the cursor; empty if it can."""
        if name not in OF_ENTRY:
            return ""
        try:
            entry = self._here
            if name in ("earlier", "later") and not entry.may_change:
                raise InputError("queue_not_waiting", number=entry.number)
            if name == "delete":
                entries.removed(self.state.queue, entry.number)
        except InputError as error:
            return error.message.text(self.services.options.lang)
        return ""

    def move(self, by: int) -> None:
        """Moves the cursor."""
        shown = self.state.queue.entries
        if shown:
            place = min(len(shown) - 1, max(0, self.state.cursor + by))
            self.state = replace(self.state, chosen=shown[place].number)

    def clicked(self, _x: int, y: int) -> None:
        """Moves the cursor to the clicked entry; a click on the entry under the cursor opens it."""
        width, height = self.app.size
        number = queue_view.entry_at(self.state, width, height - 1, y)
        if number and number == self.state.chosen:
            self.do_open()
        elif number:
            self.state = replace(self.state, chosen=number)
        self.draw()

    @work(thread=True, group="changes")
    def change(self, function: Callable[..., Queue], *args: Any) -> None:
        """Changes the queue, and shows it as it is then, or why it could not be changed."""
        folder, lang = self.folder, self.services.options.lang
        try:
            queue = folder.change(function, *args)
            queue_process.ensure(folder, queue)
        except InputError as error:
            self.app.call_from_thread(self.show_notice, error.message.text(lang), "bad")
        queue, wrong = folder.look()
        self.app.call_from_thread(self._show, queue, wrong, folder.runs, self.state.progress)

    def do_open(self) -> None:
        """Opens the run of the entry, or its settings if it has none yet."""
        entry = self._here
        self.services.open_run(entry.run) if entry.run else self.do_settings()

    def do_settings(self) -> None:
        """Opens the launch screen with the settings of the entry."""
        entry = self._here
        self.services.launch_with(entry.preset, entry.values, entry.based_on)

    def do_earlier(self) -> None:
        """Moves the entry one place up."""
        self.change(entries.shifted, self._here.number, -1)

    def do_later(self) -> None:
        """Moves the entry one place down."""
        self.change(entries.shifted, self._here.number, 1)

    def do_pause(self) -> None:
        """Pauses the queue, or continues it."""
        self.change(entries.without_pause if self.state.queue.paused else entries.with_pause)

    def do_delete(self) -> None:
        """Takes the entry out of the queue; asks first if it is still to be run."""
        entry, lang = self._here, self.services.options.lang

        def answered(key: str) -> None:
            if key == "y":
                self.change(entries.removed, entry.number)

        if entry.is_over:
            answered("y")
            return
        words = say("screen.ask_queue_remove", lang, number=entry.number, preset=safe(entry.preset, 30))
        self.ask(Question(words, answered))


def _restarted(folder: QueueFolder, queue: Queue, lang: Lang) -> tuple[str, str]:
    """Starts the process of a queue; returns what to show, and its role."""
    try:
        queue_process.ensure(folder, queue)
    except InputError as error:
        return error.message.text(lang), "bad"
    return say("queue.restarted", lang), "accent"
