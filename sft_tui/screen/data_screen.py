"""The screen of the rows of a run's data files as the model sees them: a process of the engine reads them."""

import queue
from dataclasses import replace
from typing import NamedTuple

from textual import work
from textual.worker import Worker, get_current_worker

from engine.contract.config import RunConfig
from engine.contract.facts import RowFacts
from engine.contract.inputs import require_files
from engine.contract.messages import InputError
from engine.contract.texts import say
from sft_tui import row_view
from sft_tui.preflight.ask_engine import Inspector
from sft_tui.screen import actions, data_view
from sft_tui.screen.base import FAR, PAGE_LINES, CanvasScreen
from sft_tui.screen.bottom import Question
from sft_tui.screen.data_view import DataView
from sft_tui.screen.ink import Line

WAIT_SECONDS = 0.2
MOST_DIGITS = 9  # of a row's number


class Wish(NamedTuple):
    """The row that the thread is asked for: of the file of a setting."""

    setting: str
    row: int


class DataScreen(CanvasScreen):
    """The rows of the data files of a run that is not started yet."""

    scope = actions.DATA

    def __init__(self, config: RunConfig) -> None:
        super().__init__()
        self.config = config
        files = data_view.data_files(config)
        self.state = DataView(files, next(iter(files)))
        self._wishes: queue.SimpleQueue[Wish] = queue.SimpleQueue()
        self._inspector: Inspector | None = None

    def on_mount(self) -> None:
        """Reads the first row."""
        self._go(self.state.setting, 0)
        self.serve()

    def on_unmount(self) -> None:
        """Ends the process that reads."""
        if self._inspector is not None:
            self._inspector.kill()

    # In the thread

    @work(thread=True, exclusive=True, group="data")
    def serve(self) -> None:
        """Answers wishes until the screen is closed, with a new process after one that died."""
        worker = get_current_worker()
        while not worker.is_cancelled:
            wish = self._newest()
            if wish is not None:
                self._serve(worker, wish)

    def _serve(self, worker: "Worker[None]", wish: Wish | None) -> None:
        """Answers wishes with one process until it dies or the screen is closed."""
        with Inspector() as inspector:
            self._inspector = inspector
            while not worker.is_cancelled:
                if wish is not None and not self._grant(worker, inspector, wish):
                    return
                wish = self._newest()

    def _newest(self) -> Wish | None:
        """The newest wish; None if there is none."""
        try:
            wish = self._wishes.get(timeout=WAIT_SECONDS)
            while not self._wishes.empty():
                wish = self._wishes.get()
        except queue.Empty:
            return None
        return wish

    def _grant(self, worker: "Worker[None]", inspector: Inspector, wish: Wish) -> bool:
        """Shows a row, or why it cannot be shown; whether the process is still alive."""
        found: RowFacts | InputError
        try:
            require_files(self.config, wish.setting)
            found = row_view.ask(inspector, self.config, wish.setting, wish.row)
        except InputError as error:
            found = error
        if not worker.is_cancelled and self.app.is_running:
            self.app.call_from_thread(self._show, wish, found)
        return not (isinstance(found, InputError) and found.message.code.startswith("reader_"))

    # In the app

    def _show(self, wish: Wish, found: RowFacts | InputError) -> None:
        state = self.state
        if wish != (state.setting, state.row):  # another row is wanted by now
            return
        if isinstance(found, InputError):
            self.state = replace(state, fault=found.message)
        else:
            self.state = replace(state, found=found, counts={**state.counts, wish.setting: found.rows})
        self.draw()

    def _go(self, setting: str, row: int) -> None:
        """Goes to a row of the file of a setting; one after the last is the last."""
        state = replace(self.state, setting=setting)
        row = max(0, row if state.last is None else min(row, state.last))
        if state.setting == self.state.setting and row == self.state.row and state.found is not None:
            return
        self.state = replace(state, row=row, found=None, fault=None, scroll=0)
        self._wishes.put(Wish(setting, row))
        self.draw()

    def view(self, width: int, height: int) -> list[Line]:
        """The current state of the screen."""
        return data_view.draw(self._current(), width, height)

    def _current(self) -> DataView:
        return replace(self.state, ink=self.services.options.ink, lang=self.services.options.lang)

    def why_disabled(self, name: str) -> str:
        """Why an action cannot be carried out: the last row is known, and a row can be copied, once one was read."""
        unread = (name == "newest" and self.state.last is None) or (name == "copy" and self.state.found is None)
        if unread:
            lang, fault = self.services.options.lang, self.state.fault
            return fault.text(lang) if fault is not None else say("data_screen.still_reading", lang)
        if name == "file" and len(self.state.files) < 2:
            return say("data_screen.one_file", self.services.options.lang)
        return ""

    def move(self, by: int) -> None:
        """Scrolls the row."""
        width, height = self.app.size
        most = data_view.most_scroll(self._current(), width, height - 1)
        self.state = replace(self.state, scroll=max(0, min(self.state.scroll + by, most)))

    def do_previous(self) -> None:
        """Shows the row before this one."""
        self._go(self.state.setting, self.state.row - 1)

    def do_next(self) -> None:
        """Shows the row after this one."""
        self._go(self.state.setting, self.state.row + 1)

    def do_page_up(self) -> None:
        """Shows the tenth row before this one."""
        self._go(self.state.setting, self.state.row - PAGE_LINES)

    def do_page_down(self) -> None:
        """Shows the tenth row after this one."""
        self._go(self.state.setting, self.state.row + PAGE_LINES)

    def do_oldest(self) -> None:
        """Shows the first row."""
        self._go(self.state.setting, 0)

    def do_newest(self) -> None:
        """Shows the last row."""
        self._go(self.state.setting, FAR)

    def do_file(self) -> None:
        """Shows the first row of the next file."""
        names = list(self.state.files)
        self._go(names[(names.index(self.state.setting) + 1) % len(names)], 0)

    def do_go(self) -> None:
        """Asks for the number of a row."""
        lang, last = self.services.options.lang, self.state.last
        asked = say("data_screen.ask_row", lang) if last is None else say("data_screen.ask_row_to", lang, last=last)
        self.ask(Question(asked, self._go_to, typed=""))

    def _go_to(self, typed: str) -> None:
        number = typed.strip()
        if not (number.isascii() and number.isdigit() and len(number) <= MOST_DIGITS):
            raise InputError("row_number", text=number[:40])
        last = self.state.last
        if last is not None and int(number) > last:
            raise InputError("row_unknown", path=self.state.files[self.state.setting], row=int(number), last=last)
        self._go(self.state.setting, int(number))

    def do_copy(self) -> None:
        """Copies what is shown of the row, in lines of a fixed width."""
        self.copy(data_view.copied(self._current()))
