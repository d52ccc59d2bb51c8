"""What the screens share: a canvas, a footer, keys from the table of actions, questions and notices at the bottom."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, cast

from textual.app import ComposeResult
from textual.events import Key, Paste, Resize
from textual.screen import Screen

from engine.contract.messages import InputError, Lang
from engine.contract.rundir import RunRecord
from sft_tui import starting, text
from sft_tui.locale import say
from sft_tui.screen import actions, bottom, clipboard
from sft_tui.screen.background import Background
from sft_tui.screen.bottom import Question
from sft_tui.screen.canvas import Canvas
from sft_tui.screen.editor import Editor
from sft_tui.screen.ink import Ink, Line, filled, wrap

LEAST_WIDTH, LEAST_HEIGHT = 60, 20
MOST_NEWS = 800  # characters
LEAVING = ("escape", "ctrl+c")  # keys that take a question away
PAGE_LINES, WHEEL_LINES, FAR = 10, 3, 1 << 40
TICK_SECONDS, SLOW_TICK_SECONDS = 1.0, 3.0


@dataclass(frozen=True)
class Options:
    """How the app was started."""

    logs: Path
    lang: Lang = "en"
    ink: Ink = field(default_factory=Ink)
    slow_link: bool = False
    run: str = ""  # to open at once
    demo: bool = False  # to carry out the demo and show its runs

    @property
    def tick(self) -> float:
        """Seconds between two looks at files."""
        return SLOW_TICK_SECONDS if self.slow_link else TICK_SECONDS


def too_small(width: int, height: int) -> bool:
    """Whether a terminal has no room for a screen."""
    return width < LEAST_WIDTH or height < LEAST_HEIGHT


class AppServices(Protocol):
    """What screens ask of the app that shows them."""

    options: Options
    background: Background | None

    def open_run(self, name: str) -> None:
        """Shows a run."""

    def begin(self, record: RunRecord) -> starting.Started:
        """Starts a planned run; raises InputError, also where it is finished already."""

    def start_run(self, record: RunRecord) -> None:
        """Starts a planned run, and shows it; raises InputError."""

    def begin_demo(self) -> None:
        """Starts the demo, or finds where it is, by a command that does not depend on this screen."""

    def notify_here(self, words: str, role: str = "accent") -> None:
        """Shows a notice on whatever screen is in front."""

    def back(self) -> None:
        """To the screen before; the first one stays."""

    def pop_screen(self) -> object:
        """Takes the screen in front away."""

    def write_raw(self, data: str) -> None:
        """Writes to the terminal past the screen: a bell or a notification, made here and of harmless text only."""


class CanvasScreen(Screen[None]):
    """A screen that is one canvas, with a footer and a line for questions and news."""

    scope = actions.EVERYWHERE
    about = ""  # which run it shows
    alive: bool | None = None  # whether that run is, where one is shown

    def __init__(self) -> None:
        super().__init__()
        self.canvas = Canvas()
        self.editor = Editor()
        self.question: Question | None = None
        self.news: tuple[str, str] = ("", "")  # what to tell, and its role
        self.pressed = 0.0  # when the last key was, on the monotonic clock

    @property
    def services(self) -> AppServices:
        """The app, as far as its screens know it."""
        return cast(AppServices, self.app)

    def compose(self) -> ComposeResult:
        """One canvas, and the editor whose text it shows."""
        yield self.editor
        yield self.canvas

    def on_mount(self) -> None:
        """Draws for the first time."""
        self.draw()

    def on_screen_resume(self) -> None:
        """Draws what may have changed while another screen was in front."""
        self.draw()

    def on_resize(self, _event: Resize) -> None:
        """Draws for the new size."""
        self.draw()

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
            small = say("ui_small", lang, width=LEAST_WIDTH, height=LEAST_HEIGHT)
            return filled([[(part, "warn")] for part in wrap(small, width)], width, height)
        below = self._bottom(width)
        shown = filled(self.view(width, height - 1), width, height - 1)
        return [*shown[: height - len(below)], *below]

    def _bottom(self, width: int) -> list[Line]:
        """The footer; in its place, and over as many lines above as it takes, what is asked or told."""
        news = bottom.told(*self.news, width) if self.news[0] else []
        if self.question is not None:
            return [*news, *bottom.asked(self.question, width)]
        return news or [bottom.footer(self.scope, self.services.options.lang, width, self.offered)]

    def hindrance(self, _name: str) -> str:
        """Why an action cannot be carried out now, in a sentence; empty where it can. Keys and footer go by this."""
        return ""

    def offered(self, action: actions.Action) -> bool:
        """Whether the footer shows an action."""
        return action.alive in (None, self.alive) and not self.hindrance(action.name)

    @property
    def unseen(self) -> bool:
        """Whether the terminal is too small to show the screen, so that nothing is to be done on it."""
        return too_small(*self.app.size)

    def tell(self, words: str | list[str], role: str = "accent") -> None:
        """Says something at the bottom, on a line or several, until the next key."""
        lines = [words] if isinstance(words, str) else words
        self.news = ("\n".join(text.safe(line, MOST_NEWS) for line in lines), role)
        self.draw()

    def ask(self, question: Question) -> None:
        """Asks something at the bottom."""
        self.question = question
        if question.typed is not None:
            self.editor.begin(question.typed)
        self.draw()

    def on_key(self, event: Key) -> None:
        """Answers a question, or does what the table says of the key."""
        event.stop()
        event.prevent_default()
        self.pressed = time.monotonic()
        if self.unseen:
            action = actions.by_key(self.scope, event.key)
            if action is not None and action.name in actions.UNSEEN:
                self.do(action.name)
            return
        if self.question is not None:
            self._answer(self.question, event)  # what was told meanwhile stays until it can be read
            return
        self.news = ("", "")
        action = actions.by_key(self.scope, event.key)
        if action is not None:
            self.do(action.name)
        self.draw()

    def _answer(self, question: Question, event: Key) -> None:
        if event.key in LEAVING:
            self._close()
        elif question.typed is not None:
            self._edit(question, event)
        elif question.choices:
            number = question.pressed(event.key)
            if number:
                self._close()
                self.try_to(lambda: question.answered(str(number)))
        elif event.character and event.character.lower() in question.keys:
            self._close()
            self.try_to(lambda: question.answered((event.character or "").lower()))
        self.draw()

    def _close(self) -> None:
        """Takes the question away."""
        if self.question is not None and self.question.typed is not None:
            self.news = ("", "")  # what was wrong with the text
        self.question = None

    def _edit(self, question: Question, event: Key) -> None:
        """Takes a key into the text; with enter the text is the answer, or stays to be corrected."""
        if event.key != "enter":
            self.editor.take(event)
            self.show_typed()
            return
        self._close()
        try:
            question.answered(question.typed or "")
        except InputError as error:
            if self.question is None:
                self.ask(question)
                self.tell(error.message.text(self.services.options.lang), "bad")

    def show_typed(self) -> None:
        """Shows the text and the cursor in it."""
        if self.question is not None and self.question.typed is not None:
            self.question.typed, self.question.cursor = self.editor.value, self.editor.cursor_position

    def on_paste(self, event: Paste) -> None:
        """Takes a pasted text into the answer."""
        event.stop()
        if self.question is not None and self.question.typed is not None and not self.unseen:
            self.editor.paste(event.text, is_path=self.question.is_path)
            self.show_typed()
            self.draw()

    def do(self, name: str) -> None:
        """Carries an action out, by the method of its name, here or in the app; tells why where that cannot be."""
        hindrance = self.hindrance(name)
        if hindrance:
            self.tell(hindrance, "warn")
            return
        method = getattr(self, f"do_{name}", None) or getattr(self.services, f"do_{name}", None)
        if method is not None:
            self.try_to(method)

    def try_to(self, act: Callable[[], None]) -> None:
        """Does something; tells why where it cannot be done."""
        try:
            act()
        except InputError as error:
            self.tell(error.message.text(self.services.options.lang), "bad")

    def move(self, by: int) -> None:
        """Moves the cursor, or what is shown, by so many lines."""

    def do_up(self) -> None:
        """One up."""
        self.move(-1)

    def do_down(self) -> None:
        """One down."""
        self.move(1)

    def do_page_up(self) -> None:
        """A page up."""
        self.move(-PAGE_LINES)

    def do_page_down(self) -> None:
        """A page down."""
        self.move(PAGE_LINES)

    def do_oldest(self) -> None:
        """To the first."""
        self.move(-FAR)

    def do_newest(self) -> None:
        """To the last."""
        self.move(FAR)

    def do_back(self) -> None:
        """Leaves this screen."""
        self.services.back()

    def on_canvas_clicked(self, event: Canvas.Clicked) -> None:
        """A press on the footer is a press of its key."""
        if self.unseen:
            return
        if event.y != self.app.size.height - 1 or self.question is not None:
            self.clicked(event.x, event.y)
            return
        name = bottom.footer_at(self.scope, self.services.options.lang, self.app.size.width, event.x, self.offered)
        if name:
            self.news = ("", "")
            self.do(name)
            self.draw()

    def clicked(self, _x: int, _y: int) -> None:
        """A press elsewhere."""

    def on_canvas_wheeled(self, event: Canvas.Wheeled) -> None:
        """The wheel moves what is under it."""
        if self.question is None and not self.unseen:
            self.wheeled(event.x, event.y, event.by)

    def wheeled(self, _x: int, _y: int, by: int) -> None:
        """Moves by some lines."""
        self.move(by * WHEEL_LINES)
        self.draw()

    def copy(self, words: str) -> None:
        """Copies a text, and tells where to."""
        path = clipboard.copy(words, self.services.options.logs, self.app.copy_to_clipboard)
        lang = self.services.options.lang
        self.tell(say("ui_copied", lang, path=path) if path else say("ui_copied_only", lang))
