"""The base of the screens: a canvas, a footer, keys from the table of actions, questions and notices at the bottom."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from textual.app import ComposeResult
from textual.events import Key, Paste, Resize
from textual.screen import Screen

from engine.contract.config import RunConfig
from engine.contract.messages import InputError
from engine.contract.texts import Lang, say
from sft_tui import text
from sft_tui.screen import actions, bottom, clipboard
from sft_tui.screen.background import Background
from sft_tui.screen.bottom import Question
from sft_tui.screen.canvas import Canvas
from sft_tui.screen.editor import Editor
from sft_tui.screen.ink import Ink, Line, filled
from sft_tui.wrapping import wrap

if TYPE_CHECKING:  # the first screen does without them
    from engine.contract.record import RunRecord
    from sft_tui.runs import Run
    from sft_tui.starting import Started

LEAST_WIDTH, LEAST_HEIGHT = 60, 20
LONGEST_NOTICE = 800  # characters
SOURCE = "source"  # a file to import, where `pick_path` expects a setting
CANCEL_KEYS = ("escape", "ctrl+c")  # keys that cancel a question
PAGE_LINES, WHEEL_LINES, FAR = 10, 3, 1 << 40
TICK_SECONDS, SLOW_TICK_SECONDS = 1.0, 3.0


@dataclass(frozen=True)
class Options:
    """How the app was started."""

    logs: Path
    lang: Lang = "en"
    ink: Ink = field(default_factory=Ink)
    slow_link: bool = False
    run: str = ""  # open this run at once
    demo: str = ""  # the preset of the demo to run
    chat: tuple[str, ...] = ()  # the models to chat with at once; `run` is then the run that they belong to

    @property
    def tick(self) -> float:
        """Seconds between two reads of the files."""
        return SLOW_TICK_SECONDS if self.slow_link else TICK_SECONDS


def too_small(width: int, height: int) -> bool:
    """Whether a terminal is too small for a screen."""
    return width < LEAST_WIDTH or height < LEAST_HEIGHT


class AppServices(Protocol):
    """The services of the app that its screens use."""

    options: Options
    background: Background | None
    draft: tuple[str, dict[str, Any], str]  # what the launch screen was left with: preset, settings, run they are from

    def open_run(self, name: str) -> None:
        """Shows a run."""

    def begin(self, record: "RunRecord") -> "Started":
        """Starts a planned run; raises InputError, also if the run is already finished."""

    def start_run(self, record: "RunRecord") -> None:
        """Starts a planned run, and shows it; raises InputError."""

    def begin_demo(self, preset: str) -> None:
        """Starts the demo, or finds its current stage, with a command that does not depend on this screen."""

    def launch_with(self, preset: str, values: Mapping[str, Any], based_on: str = "") -> None:
        """Opens the launch screen with a preset and settings over it; `based_on` names the run they are from."""

    def open_settings(self, setting: str = "") -> None:
        """Shows all settings of the run on the launch screen, with the cursor on one of them."""

    def pick_path(self, setting: str, current: str, done: Callable[[str], None]) -> None:
        """Lets the user choose the path of a setting; `done` gets it, and is not called if they leave."""

    def open_import(self, path: str, done: Callable[[str], None] | None = None) -> None:
        """Shows what an import would make of a file; `done` gets the training file once that is written."""

    def open_model(self, path: str, files: Mapping[str, str]) -> None:
        """Shows what a model is and what would learn, for a run on files by setting."""

    def open_data(self, config: RunConfig) -> None:
        """Shows the rows of a run's data files as the model sees them."""

    def open_rows(self, run: str, step: int, last: int = 0) -> None:
        """Shows the rows of a step of a run, or of the steps up to `last`, with their losses."""

    def open_chat(self, models: Sequence[str], run: str = "") -> None:
        """Opens a conversation with one model, or with two side by side; `run` is where its judgements are kept."""

    def open_queue(self) -> None:
        """Shows the queue of runs."""

    def enqueue(self, preset: str, values: Mapping[str, Any], based_on: str = "") -> None:
        """Puts a run at the end of the queue, and shows a notice; raises InputError."""

    def open_resume(self, run: "Run") -> None:
        """Shows the settings that may be changed when a run is resumed."""

    def open_output(self, run: str) -> None:
        """Shows what the processes of a run printed."""

    def notify_here(self, words: str, role: str = "accent") -> None:
        """Shows a notice on whichever screen is in front."""

    def back(self) -> None:
        """Returns to the previous screen; the first one stays."""

    def pop_screen(self) -> object:
        """Closes the screen in front."""

    def write_raw(self, data: str) -> None:
        """Writes to the terminal outside the screen: a bell or a notification, made here from harmless text only."""


class ActionScreen(Screen[None]):
    """A screen whose keys are those of the table of actions; its bottom line shows keys, questions and notices."""

    scope = actions.EVERYWHERE
    about = ""  # the run it shows
    alive: bool | None = None  # whether that run is alive; None without a run

    def __init__(self) -> None:
        super().__init__()
        self.editor = Editor()
        self.question: Question | None = None
        self.notice: tuple[str, str] = ("", "")  # the notice and its role
        self.pressed = 0.0  # monotonic time of the last key

    @property
    def services(self) -> AppServices:
        """The app, as its screens see it."""
        return cast(AppServices, self.app)

    @property
    def window_title(self) -> str:
        """What the title of the terminal's window says after the name of the program; empty for nothing."""
        return self.about

    @property
    def typing(self) -> bool:
        """Whether a question is open, so that the screen must not be switched."""
        return self.question is not None

    @property
    def in_front(self) -> bool:
        """Whether no other screen is over this one; Textual's `is_current` may count a screen behind as well."""
        return self.app.screen_stack[-1:] == [self]

    @property
    def is_open(self) -> bool:
        """Whether it was not left: what a thread brings later has no place on a screen that was."""
        return self in self.app.screen_stack

    def on_mount(self) -> None:
        """Draws for the first time."""
        self.draw()

    def on_screen_resume(self) -> None:
        """Redraws what may have changed while another screen was in front."""
        self.draw()

    def relabel(self) -> None:
        """Takes over another language or theme."""
        self.draw()

    def on_resize(self, _event: Resize) -> None:
        """Draws for the new size."""
        self.draw()

    def draw(self) -> None:
        """Draws what has changed."""
        raise NotImplementedError

    def bottom_lines(self, width: int) -> list[Line]:
        """The footer, or in its place, on as many lines as needed, the question or notice."""
        notice = bottom.notice(*self.notice, width) if self.notice[0] else []
        if self.question is not None:
            return [*notice, *bottom.asked(self.question, width)]
        lang = self.services.options.lang
        labels, typing = self.footer_labels, self.typed_into
        return notice or [bottom.footer(self.scope, lang, width, self.offered, labels, typing=typing)]

    @property
    def typed_into(self) -> bool:
        """Whether characters belong to a widget that is typed into."""
        return False

    def why_disabled(self, _name: str) -> str:
        """Why an action cannot be carried out now, in a sentence; empty if it can. Keys and footer both use this."""
        return ""

    def offered(self, action: actions.Action) -> bool:
        """Whether the footer shows an action."""
        return action.alive in (None, self.alive) and not self.why_disabled(action.name)

    @property
    def footer_labels(self) -> Mapping[str, str]:
        """Labels in the footer of actions that do something else now than usually, by their names."""
        return bottom.USUAL

    @property
    def unseen(self) -> bool:
        """Whether the terminal is too small to show the screen, so that its actions are disabled."""
        return too_small(*self.app.size)

    def show_notice(self, words: str | list[str], role: str = "accent") -> None:
        """Shows a notice at the bottom, on one or more lines, until the next key."""
        lines = [words] if isinstance(words, str) else words
        self.notice = ("\n".join(text.safe(line, LONGEST_NOTICE) for line in lines), role)
        self.draw()

    def ask(self, question: Question) -> None:
        """Shows a question at the bottom."""
        self.question = question
        if question.typed is not None:
            self.editor.begin(question.typed)
        self.draw()

    def passed_on(self, event: Key) -> bool:
        """Passes a key on to the screen in front if that is another by now: of keys that arrive at once, as over a slow
        link, Textual gives all to the screen that was in front at first.
        """
        if self.in_front:
            return False
        event.stop()
        event.prevent_default()
        self.app.post_message(Key(event.key, event.character))
        return True

    def on_key(self, event: Key) -> None:
        """Answers a question, or carries out the key's action."""
        if self.passed_on(event):
            return
        event.stop()
        event.prevent_default()
        self.pressed = time.monotonic()
        if self.unseen:
            action = actions.by_key(self.scope, event.key)
            if action is not None and action.name in actions.UNSEEN:
                self.do(action.name)
            return
        if self.question is not None:
            self._answer(self.question, event)  # a notice that came meanwhile stays until it can be read
            return
        self.notice = ("", "")
        action = actions.by_key(self.scope, event.key)
        if action is not None:
            self.do(action.name)
        self.draw()

    def _answer(self, question: Question, event: Key) -> None:
        if event.key in CANCEL_KEYS:
            self.close_question()
        elif question.typed is not None:
            self._edit(question, event)
        elif question.choices:
            number = question.pressed(event.key)
            if number:
                self.close_question()
                self.try_to(lambda: question.answered(str(number)))
        elif event.character and event.character.lower() in question.keys:
            self.close_question()
            self.try_to(lambda: question.answered((event.character or "").lower()))
        self.draw()

    def close_question(self) -> None:
        """Closes the question."""
        if self.question is not None and self.question.typed is not None:
            self.notice = ("", "")  # the error about the text
        self.question = None

    def _edit(self, question: Question, event: Key) -> None:
        """Applies a key to the text; enter submits it as the answer, or leaves it to be corrected."""
        if event.key != "enter":
            self.editor.take(event)
            self.show_typed()
            return
        self.close_question()
        try:
            question.answered(question.typed or "")
        except InputError as error:
            if self.question is None:
                self.ask(question)
                self.show_error(error)

    def show_typed(self) -> None:
        """Shows the text and the cursor in it."""
        if self.question is not None and self.question.typed is not None:
            self.question.typed, self.question.cursor = self.editor.value, self.editor.cursor_position

    def on_paste(self, event: Paste) -> None:
        """Inserts pasted text into the answer."""
        event.stop()
        if self.question is not None and self.question.typed is not None and not self.unseen:
            self.editor.paste(event.text)
            self.show_typed()
            self.draw()

    def do(self, name: str) -> None:
        """Carries out an action by the method of its name, here or in the app; shows the reason if it cannot."""
        why_disabled = self.why_disabled(name)
        if why_disabled:
            self.show_notice(why_disabled, "warn")
            return
        method = getattr(self, f"do_{name}", None) or getattr(self.services, f"do_{name}", None)
        if method is not None:
            self.try_to(method)

    def try_to(self, act: Callable[[], None]) -> None:
        """Calls a function; shows the reason if it raises InputError."""
        try:
            act()
        except InputError as error:
            self.show_error(error)

    def show_error(self, error: InputError) -> None:
        """Shows why something could not be done."""
        self.show_notice(error.message.text(self.services.options.lang), "bad")

    def move(self, by: int) -> None:
        """Moves the cursor, or scrolls, by the given number of lines."""

    def do_up(self) -> None:
        """Moves one line up."""
        self.move(-1)

    def do_down(self) -> None:
        """Moves one line down."""
        self.move(1)

    def do_page_up(self) -> None:
        """Moves a page up."""
        self.move(-PAGE_LINES)

    def do_page_down(self) -> None:
        """Moves a page down."""
        self.move(PAGE_LINES)

    def do_oldest(self) -> None:
        """Moves to the first."""
        self.move(-FAR)

    def do_newest(self) -> None:
        """Moves to the last."""
        self.move(FAR)

    def do_back(self) -> None:
        """Leaves this screen."""
        self.services.back()

    def copy(self, words: str) -> None:
        """Copies a text, and shows where to."""
        path = clipboard.copy(words, self.services.options.logs, self.app.copy_to_clipboard)
        lang = self.services.options.lang
        self.show_notice(say("screen.copied", lang, path=path) if path else say("screen.copied_only", lang))

    def press_footer(self, x: int) -> None:
        """Treats a click on a column of the footer as a press of its key."""
        lang, width = self.services.options.lang, self.app.size.width
        name = bottom.footer_at(self.scope, lang, width, x, self.offered, self.footer_labels, typing=self.typed_into)
        if name:
            self.notice = ("", "")
            self.do(name)
            self.draw()


class CanvasScreen(ActionScreen):
    """A screen that is one canvas."""

    def __init__(self) -> None:
        super().__init__()
        self.canvas = Canvas()

    def compose(self) -> ComposeResult:
        """One canvas, and the editor whose text it shows."""
        yield self.editor
        yield self.canvas

    def view(self, width: int, height: int) -> list[Line]:
        """The screen without its footer."""
        raise NotImplementedError

    def draw(self) -> None:
        """Puts the view on the canvas."""
        width, height = self.app.size
        if not width or not height:
            return
        self.canvas.put(self.lines(width, height), self.services.options.ink)

    def lines(self, width: int, height: int) -> list[Line]:
        """The whole screen."""
        lang = self.services.options.lang
        if too_small(width, height):
            small = say("screen.small", lang, width=LEAST_WIDTH, height=LEAST_HEIGHT)
            return filled([[(part, "warn")] for part in wrap(small, width)], width, height)
        below = self.bottom_lines(width)
        shown = filled(self.view(width, height - 1), width, height - 1)
        return [*shown[: height - len(below)], *below]

    def on_canvas_clicked(self, event: Canvas.Clicked) -> None:
        """Treats a click on the footer as a press of its key."""
        if self.unseen:
            return
        if event.y != self.app.size.height - 1 or self.question is not None:
            self.try_to(lambda: self.clicked(event.x, event.y))
            return
        self.press_footer(event.x)

    def clicked(self, _x: int, _y: int) -> None:
        """Handles a click elsewhere."""

    def on_canvas_wheeled(self, event: Canvas.Wheeled) -> None:
        """Scrolls what is under the wheel."""
        if self.question is None and not self.unseen:
            self.wheeled(event.x, event.y, event.by)

    def wheeled(self, _x: int, _y: int, by: int) -> None:
        """Moves by a few lines."""
        self.move(by * WHEEL_LINES)
        self.draw()
