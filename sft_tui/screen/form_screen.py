"""The base of the screens on which a person types, chooses or reads at length: Textual's widgets between two lines."""

from collections.abc import Iterable
from contextlib import suppress
from inspect import iscoroutinefunction

from textual.actions import SkipAction
from textual.app import ComposeResult
from textual.containers import Container
from textual.events import Key
from textual.widget import Widget
from textual.widgets import Input, TextArea

from engine.contract.texts import say
from sft_tui.screen import actions
from sft_tui.screen.base import LEAST_HEIGHT, LEAST_WIDTH, ActionScreen
from sft_tui.screen.bottom import Question
from sft_tui.screen.canvas import Canvas
from sft_tui.screen.ink import Line, fit


class FormScreen(ActionScreen):
    """A form: a title line, the widgets that `body` yields, and the bottom line with keys, questions and notices.

    A key belongs to the widget with the focus if it is a character and the widget is typed into, or if the widget
    binds it and the form's own scope does not; all other keys are those of the table of actions. A form that needs the
    arrows while its Input has the focus enters them in its scope. Widgets get their colours from `form_style.CSS`;
    class `framed` gives them a frame whose title is `border_title`.
    """

    AUTO_FOCUS = ""  # Textual's would be there some keys before `first_focus`, and take them

    def __init__(self) -> None:
        super().__init__()
        self.title_line, self.bottom_line = Canvas(), Canvas()
        self.title_line.id, self.bottom_line.id = "title", "bottom"
        self._focused_before: Widget | None = None  # the widget that had the focus when a question was asked

    def heading(self) -> Line:
        """The title line."""
        raise NotImplementedError

    def body(self) -> Iterable[Widget]:
        """The widgets of the form, from the top down."""
        raise NotImplementedError

    def first_focus(self) -> Widget | None:
        """The widget that has the focus at first; None for the first that can have it."""
        return None

    def compose(self) -> ComposeResult:
        """The title, the widgets, and the bottom line."""
        yield self.editor
        yield self.title_line
        yield Container(*self.body(), id="body")
        yield self.bottom_line

    def on_mount(self) -> None:
        """Gives the first widget the focus, and draws the two lines."""
        self.set_focus(self.first_focus() or next((one for one in self.query("*") if one.focusable), None))
        self.draw()

    def draw(self) -> None:
        """Draws the title and the bottom line; the widgets draw themselves."""
        width, height = self.app.size
        if not width or not height or not self.is_mounted or not self.is_open:
            return
        options = self.services.options
        below = self.bottom_lines(width)[-max(1, height - 2) :]
        small = say("screen.small", options.lang, width=LEAST_WIDTH, height=LEAST_HEIGHT)
        self.query_one("#body").display = not self.unseen
        self.title_line.put([fit([(small, "warn")] if self.unseen else self.heading(), width)], options.ink)
        self.bottom_line.styles.height = len(below)
        self.bottom_line.put(below, options.ink)

    @property
    def typed_into(self) -> bool:
        """Whether characters belong to the widget with the focus."""
        return isinstance(self.focused, Input | TextArea)

    @property
    def typing(self) -> bool:
        """Whether a question is open or text is being typed."""
        return self.question is not None or self.typed_into

    def offered(self, action: actions.Action) -> bool:
        """As in the base class, without letters where these are typed."""
        typed = self.typed_into and all(map(actions.prints, action.keys))
        return super().offered(action) and not typed

    def _of_widget(self, event: Key) -> bool:
        """Whether a key belongs to the widget with the focus."""
        if self.question is not None or self.focused is None:
            return False
        if self.typed_into and event.is_printable:
            return True
        if any(event.key in action.keys for action in actions.own(self.scope)) or event.key in actions.ALWAYS:
            return False
        return event.key in self.focused._bindings.key_to_bindings

    def on_key(self, event: Key) -> None:
        """Leaves a key to the widget it belongs to; else answers a question, or carries out the key's action."""
        if self.passed_on(event):
            return
        if self._of_widget(event):
            event.prevent_default()
            self.notice = ("", "")
            if not self.typed_into:
                self._carry_out_binding(event)
            self.draw()
        else:
            super().on_key(event)

    def _carry_out_binding(self, event: Key) -> None:
        """Carries out the binding of the widget with the focus now: Textual would after all keys that wait already."""
        for binding in self.focused._bindings.key_to_bindings[event.key] if self.focused is not None else ():
            method = getattr(self.focused, f"action_{binding.action}", None)
            if method is not None and not iscoroutinefunction(method):
                event.stop()
                with suppress(SkipAction):  # there is nothing to scroll
                    method()
                return

    def ask(self, question: Question) -> None:
        """Shows a question at the bottom, which gets the keys until it is answered."""
        if self.focused is not None:
            self._focused_before = self.focused
            self.set_focus(None)
        super().ask(question)

    def close_question(self) -> None:
        """Closes the question, and gives the focus back."""
        super().close_question()
        if self._focused_before is not None and self._focused_before.is_attached:
            self.set_focus(self._focused_before)  # at once: the answer may ask another question
        self._focused_before = None

    def do_next(self) -> None:
        """Moves to the next widget."""
        self.focus_next()

    def do_previous(self) -> None:
        """Moves to the previous widget."""
        self.focus_previous()

    def on_descendant_focus(self) -> None:
        """Shows the keys of the widget that has the focus now."""
        self.draw()

    def on_canvas_clicked(self, event: Canvas.Clicked) -> None:
        """Treats a click on the footer as a press of its key."""
        last = event.y == len(self.bottom_lines(self.app.size.width)) - 1
        if event.canvas is self.bottom_line and last and self.question is None and not self.unseen:
            self.press_footer(event.x)
