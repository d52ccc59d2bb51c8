"""The screen of the queue: reads it in a thread, reorders, removes, pauses, and opens its runs."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

from textual import work
from textual.worker import get_current_worker

from engine.contract.messages import InputError, Message
from engine.contract.rundir import RunDir
from engine.contract.texts import Lang, say
from sft_tui import listing, runs
from sft_tui.history import Follower
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


class Change(NamedTuple):
    """A key that changes the queue."""

    function: Callable[..., Queue]
    arguments: tuple[Any, ...]


class Watch:
    """The run that is running, of which only what is new is read each time."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._run_dir = RunDir(logs)
        self._follower: Follower | None = None

    def line(self, queue: Queue, lang: Lang) -> str:
        """The state of that run, on a line; empty if there is none, its name if it cannot be read."""
        name = queue.active.run if queue.active is not None else ""
        if not name:
            return ""
        run_dir = RunDir(self._logs / name)
        try:
            if self._follower is None or run_dir != self._run_dir:
                self._run_dir, self._follower = run_dir, Follower(run_dir)
            return listing.status_line(runs.followed(run_dir, self._follower), lang)
        except InputError:
            return name


class QueueScreen(CanvasScreen):
    """The screen of the queue."""

    scope = actions.QUEUE

    def __init__(self) -> None:
        super().__init__()
        self.state = QueueView(read=False)
        self._changing = threading.Lock()  # what is read before a change must not be shown after it
        self._changes: SimpleQueue[Change] = SimpleQueue()  # in the order of their keys
        self._left = 0  # changes that are not carried out yet
        self._paused = False  # whether it is paused once they are
        self._due_since = 0.0  # when its process was first seen to be due; 0 if it is not
        self._removed = 0  # the entry that was taken out last, which may still be shown

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
        worker, folder = get_current_worker(), self.folder
        tried, watch = False, Watch(folder.logs)
        while not worker.is_cancelled:
            lang = self.services.options.lang
            if self.in_front:
                with self._changing:
                    found, wrong = folder.look()
                    alive = not self._is_dead(found)
                    self.app.call_from_thread(self._show, found, wrong, alive)
                if not tried and not wrong and not alive:
                    tried = True
                    self.app.call_from_thread(self.show_notice, *_restarted(folder, found, lang))
                self.app.call_from_thread(self._show_progress, watch.line(found, lang))
            time.sleep(self.services.options.tick)

    def _is_dead(self, queue: Queue) -> bool:
        """Whether the process of the queue has been due for longer than one that was just started can be."""
        now = time.monotonic()
        self._due_since = (self._due_since or now) if queue_process.is_due(self.folder, queue) else 0.0
        return self._due_since > 0 and now - self._due_since >= queue_process.GRACE_SECONDS

    def _show(self, queue: Queue, wrong: Sequence[Message], alive: bool) -> None:
        chosen = self.state.chosen if any(one.number == self.state.chosen for one in queue.entries) else 0
        if not chosen and queue.entries:
            place = min(self.state.cursor, len(queue.entries) - 1)
            first = queue.active or next(iter(queue.waiting), queue.entries[place])
            chosen = queue.entries[place].number if self.state.queue.entries else first.number
        self._take(replace(self.state, queue=queue, wrong=tuple(wrong), alive=alive, chosen=chosen, read=True))

    def _show_progress(self, progress: str) -> None:
        self._take(replace(self.state, progress=progress))

    def _take(self, state: QueueView) -> None:
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
        if not self.state.read:
            return say("here.reading", self.services.options.lang)
        if name == "delete" and self._is_removed:
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

    def change(self, function: Callable[..., Queue], *args: Any) -> None:
        """Changes the queue in a thread, after the keys before."""
        if not self._left:
            self._paused = self.state.queue.paused
        self._left += 1
        self._changes.put(Change(function, args))
        self.carry_out()

    @work(thread=True, group="changes")
    def carry_out(self) -> None:
        """Carries out the oldest change, and shows the queue as it is then, or why it could not be changed."""
        folder, lang = self.folder, self.services.options.lang
        with self._changing:
            change = self._changes.get()
            try:
                queue_process.ensure(folder, folder.change(change.function, *change.arguments))
            except InputError as error:
                self.app.call_from_thread(self.show_notice, error.message.text(lang), "bad")
            self._due_since = 0.0  # its process may have been started just now
            self.app.call_from_thread(self._changed, *folder.look())

    def _changed(self, found: Queue, wrong: Sequence[Message]) -> None:
        self._left -= 1
        self._show(found, wrong, self.state.alive)

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
        """Pauses the queue, or continues it; keys before may not have been carried out yet."""
        paused = self._paused if self._left else self.state.queue.paused
        self.change(entries.without_pause if paused else entries.with_pause)
        self._paused = not paused

    @property
    def _is_removed(self) -> bool:
        """Whether the entry that a second key would take out is out already, or will be."""
        here = self.state.here
        return bool(self._removed) and (here is None or here.number == self._removed)

    def offered(self, action: actions.Action) -> bool:
        """As in the base class, but there is nothing to take out of an empty queue."""
        return super().offered(action) and (action.name != "delete" or self.state.here is not None)

    def do_delete(self) -> None:
        """Takes the entry out of the queue; asks first if it is still to be run. A second key does nothing more."""
        if self._is_removed:
            return
        entry, lang = self._here, self.services.options.lang

        def answered(key: str) -> None:
            if key == "y":
                self._removed = entry.number
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
