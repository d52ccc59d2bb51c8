"""The screen with what the processes of a run printed: follows the file, and scrolls back in its end."""

import time
from dataclasses import replace

from textual import work
from textual.worker import get_current_worker

from engine.contract.messages import InputError
from engine.contract.texts import say
from sft_tui import runs
from sft_tui.screen import actions, output_view
from sft_tui.screen.base import CanvasScreen
from sft_tui.screen.ink import Line
from sft_tui.screen.output_view import OutputView
from sft_tui.tail import Tail

FILES = ("trainer", "supervisor")


class OutputScreen(CanvasScreen):
    """The end of the trainer's output, or of the supervisor's."""

    scope = actions.OUTPUT

    def __init__(self, name: str) -> None:
        super().__init__()
        self.about = name
        self.state = OutputView(name, FILES[0])

    def on_mount(self) -> None:
        """Begins to follow the file."""
        self.draw()
        self.follow()

    @work(thread=True, exclusive=True, group="output")
    def follow(self) -> None:
        """Reads the file whenever it has changed, and draws."""
        worker, options, file = get_current_worker(), self.services.options, self.state.file
        try:
            run_dir = runs.find(options.logs, self.about)
            tail = Tail(run_dir.trainer_output if file == "trainer" else run_dir.supervisor_output)
            while not worker.is_cancelled:
                if tail.poll():
                    self.app.call_from_thread(self._show, file, tail.lines, tail.begins, tail.cut)
                time.sleep(options.tick)
        except InputError as error:
            self.app.call_from_thread(self._fail, error.message.text(options.lang))

    def _show(self, file: str, lines: tuple[str, ...], begins: tuple[int, ...], cut: bool) -> None:
        if file != self.state.file:  # another one was chosen meanwhile
            return
        self.state = output_view.continued(self.state, lines, begins, cut=cut)
        if self.in_front:
            self.draw()

    def _fail(self, why: str) -> None:
        self.state = replace(self.state, fault=why)
        if self.in_front:
            self.draw()

    def view(self, width: int, height: int) -> list[Line]:
        """The current state of the screen."""
        state = replace(self.state, lang=self.services.options.lang)
        self.state = replace(state, back=min(state.back, output_view.most_back(state, width, height)))
        return output_view.draw(self.state, width, height)

    def move(self, by: int) -> None:
        """Scrolls to newer lines, or to older ones."""
        self.state = replace(self.state, back=min(max(0, self.state.back - by), len(self.state.lines)))

    def do_page(self) -> None:
        """Shows the other file."""
        file = FILES[(FILES.index(self.state.file) + 1) % len(FILES)]
        self.state = OutputView(self.about, file)
        self.follow()

    def why_disabled(self, name: str) -> str:
        """Why an action cannot be carried out: nothing was printed."""
        return say("screen.output_none", self.services.options.lang) if name == "copy" and not self.state.lines else ""

    def do_copy(self) -> None:
        """Copies the lines that are held."""
        self.copy("\n".join(self.state.lines))

    def do_output(self) -> None:
        """Closes the screen with the key that opened it."""
        self.services.back()
