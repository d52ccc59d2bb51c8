"""The text typed on the bottom line: Textual's Input edits it, the canvas shows it."""

import os
import shlex

from rich.highlighter import Highlighter
from rich.text import Text
from textual.events import Key, Paste
from textual.widgets import Input

from sft_tui.text import one_for_one, safe

MOST_PASTED = 4000  # characters


# The keys of Input's actions.
KEYS = {
    "left": "cursor_left", "right": "cursor_right", "ctrl+left": "cursor_left_word",
    "ctrl+right": "cursor_right_word", "home": "home", "ctrl+a": "home", "end": "end", "ctrl+e": "end",
    "backspace": "delete_left", "delete": "delete_right", "ctrl+d": "delete_right", "ctrl+w": "delete_left_word",
    "ctrl+u": "delete_left_all", "ctrl+k": "delete_right_all",
}  # fmt: skip


class Harmless(Highlighter):
    """Shows each character of an Input that a terminal would interpret as another one, so that the cursor fits."""

    def highlight(self, text: Text) -> None:
        """Puts a visible character in the place of each."""
        text.plain = one_for_one(text.plain)


HARMLESS = Harmless()


class LineInput(Input, inherit_bindings=False):
    """A line of text that applies its keys in the order in which they were typed, however late they arrive.

    Bindings of Textual's Input run only after the key has passed the screen, when later characters are in the text.
    """

    is_path = False  # whether the text names a file

    def begin(self, text: str) -> None:
        """Starts editing this text, with the cursor at its end."""
        self.value = text
        self.cursor_position = len(text)

    def take(self, event: Key) -> bool:
        """Applies a key; False if it is none of the text's."""
        if event.key in KEYS:
            getattr(self, f"action_{KEYS[event.key]}")()
        elif event.is_printable and event.character:
            self.insert_text_at_cursor(event.character)
        else:
            return False
        return True

    async def _on_key(self, event: Key) -> None:
        if self.take(event):
            event.stop()
            event.prevent_default()

    def paste(self, text: str) -> None:
        """Inserts pasted text."""
        self.insert_text_at_cursor(pasted(text, is_path=self.is_path))

    def _on_paste(self, event: Paste) -> None:
        event.stop()
        event.prevent_default()
        self.paste(event.text)


class Editor(LineInput, can_focus=False):
    """The editor of the requested text. It is hidden, and gets its keys one by one from its screen.

    With the focus it would get keys only some time after it was opened, and lose what was typed meanwhile.
    """

    DEFAULT_CSS = "Editor { display: none; }"


def pasted(text: str, *, is_path: bool) -> str:
    """The first line of pasted text; for a path, without the quotes of file managers, and with its folder."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return safe(path_of(line) if is_path else line, MOST_PASTED)


def path_of(line: str) -> str:
    """The path in a line from a shell or a file manager."""
    quoted = len(line) > 1 and line[0] == line[-1] and line[0] in "'\""
    if quoted or ("\\" in line and not os.path.exists(line)):
        try:
            words = shlex.split(line)
        except ValueError:  # a quote that is part of the name
            words = []
        line = words[0] if len(words) == 1 else line
    return os.path.expanduser(line)
