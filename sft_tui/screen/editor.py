"""What a person types on the bottom line: Textual's Input does the editing, the canvas over it shows the text."""

import os
import shlex
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.events import Paste
from textual.message import Message
from textual.widgets import Input

from sft_tui.text import safe

MOST_PASTED = 4000  # characters


class Editor(Input, inherit_bindings=False):
    """Takes the keys while a text is asked for; it lies beneath the canvas, which draws it."""

    DEFAULT_CSS = "Editor { layer: beneath; dock: bottom; width: 100%; height: 1; border: none; padding: 0; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "cursor_left"),
        Binding("right", "cursor_right"),
        Binding("ctrl+left", "cursor_left_word"),
        Binding("ctrl+right", "cursor_right_word"),
        Binding("home,ctrl+a", "home"),
        Binding("end,ctrl+e", "end"),
        Binding("backspace", "delete_left"),
        Binding("delete,ctrl+d", "delete_right"),
        Binding("ctrl+w", "delete_left_word"),
        Binding("ctrl+u", "delete_left_all"),
        Binding("ctrl+k", "delete_right_all"),
        Binding("enter", "submit"),
    ]

    class Moved(Message):
        """The cursor is at another place."""

    def __init__(self) -> None:
        super().__init__(disabled=True, select_on_focus=False)
        self.cursor_blink = False
        self.is_path = False

    def watch_selection(self) -> None:
        """Tells of the cursor."""
        self.post_message(self.Moved())

    def begin(self, text: str, *, is_path: bool = False) -> None:
        """Takes the keys from now on; `is_path`: what is pasted is the name of a file."""
        self.is_path = is_path
        self.disabled = False
        with self.prevent(Input.Changed):
            self.value = text
        self.cursor_position = len(text)
        self.focus()

    def end(self) -> None:
        """Leaves the keys to the screen."""
        self.disabled = True
        self.screen.set_focus(None)

    def _on_paste(self, event: Paste) -> None:
        event.stop()
        event.prevent_default()
        self.insert_text_at_cursor(pasted(event.text, is_path=self.is_path))


def pasted(text: str, *, is_path: bool) -> str:
    """The first line of what was pasted; of a path without quotes, as file managers put them, and with its folder."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return safe(path_of(line) if is_path else line, MOST_PASTED)


def path_of(line: str) -> str:
    """The path that a line from a shell or a file manager means."""
    quoted = len(line) > 1 and line[0] == line[-1] and line[0] in "'\""
    if quoted or ("\\" in line and not os.path.exists(line)):
        try:
            words = shlex.split(line)
        except ValueError:  # a quote that is part of the name
            words = []
        line = words[0] if len(words) == 1 else line
    return os.path.expanduser(line)
