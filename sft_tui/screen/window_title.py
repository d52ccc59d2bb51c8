"""The title of the terminal's window while the screen is open; the one before it comes back at the end."""

import os
from collections.abc import Callable

from sft_tui.text import safe

INTERVAL_SECONDS = 5.0
LONGEST = 100  # characters
PROGRAM = "sft-tui"
PUSH, POP = "\x1b[22;2t", "\x1b[23;2t"  # XTPUSHTITLE and XTPOPTITLE; a terminal without them keeps an empty title
UNTITLED = ("linux", "dumb", "vt100", "vt102", "vt220", "ansi", "")  # values of TERM


class WindowTitle:
    """Writes the title by `write`, only if it changed; does nothing on a terminal that has no window."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write, self._shown = write, ""
        self._has_title = os.environ.get("TERM", "") not in UNTITLED

    def begin(self) -> None:
        """Keeps the present title for the end."""
        if self._has_title:
            self._write(PUSH)
            self.show("")

    def show(self, words: str) -> None:
        """Shows the name of the program, and these words after it."""
        title = safe(f"{PROGRAM}: {words}" if words else PROGRAM, LONGEST)
        if self._has_title and title != self._shown:
            self._shown = title
            self._write(_titled(title))

    def end(self, write: Callable[[str], None]) -> None:
        """Brings the earlier title back, by another way to the terminal, as the screen is closed."""
        if self._shown:
            self._shown = ""
            write(_titled("") + POP)


def _titled(title: str) -> str:
    """OSC 2 with a title, which is harmless."""
    return f"\x1b]2;{title}\x1b\\"
