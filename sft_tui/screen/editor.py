"""What a person types on the bottom line: Textual's Input does the editing, the canvas shows the text."""

import os
import shlex

from textual.events import Key
from textual.widgets import Input

from sft_tui.text import safe

MOST_PASTED = 4000  # characters


# What keys do, by the names of Input's actions.
KEYS = {
    "left": "cursor_left", "right": "cursor_right", "ctrl+left": "cursor_left_word",
    "ctrl+right": "cursor_right_word", "home": "home", "ctrl+a": "home", "end": "end", "ctrl+e": "end",
    "backspace": "delete_left", "delete": "delete_right", "ctrl+d": "delete_right", "ctrl+w": "delete_left_word",
    "ctrl+u": "delete_left_all", "ctrl+k": "delete_right_all",
}  # fmt: skip


class Editor(Input, inherit_bindings=False, can_focus=False):
    """The text that is asked for. It is not shown itself, and takes keys from its screen, one after the other.

    With the focus it would be given keys only some time after it was opened, and lose what was typed meanwhile.
    """

    DEFAULT_CSS = "Editor { display: none; }"

    def begin(self, text: str) -> None:
        """Edits this text from now on, from its end."""
        self.value = text
        self.cursor_position = len(text)

    def take(self, event: Key) -> None:
        """Does what a key does."""
        if event.key in KEYS:
            getattr(self, f"action_{KEYS[event.key]}")()
        elif event.is_printable and event.character:
            self.insert_text_at_cursor(event.character)

    def paste(self, text: str, *, is_path: bool) -> None:
        """Takes a pasted text in."""
        self.insert_text_at_cursor(pasted(text, is_path=is_path))


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
