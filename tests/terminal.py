"""A program on a pseudo-terminal, and what a terminal emulator shows of it."""

import contextlib
import copy
import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyte
import pyte.modes
from wcwidth import wcwidth

PROGRAM = [sys.executable, "-m", "sft_tui"]
LIMIT = 90.0  # seconds for a condition, on a machine that is busy with other tests

ALTERNATE_SCREEN = 1049
# Buttons, motion and its two encodings, focus, bracketed paste: an app that leaves one on spoils the shell after it.
REPORTS = (1000, 1002, 1003, 1006, 1015, 1004, 2004)


class _Emulator(pyte.Screen):
    """pyte's screen with what it lacks: an alternate screen, and an account of its answers to the program."""

    def __init__(self, columns: int, lines: int) -> None:
        self.behind: Any = None  # the cells of the main screen while the alternate one is shown
        self.answers: list[str] = []
        super().__init__(columns, lines)

    def set_mode(self, *modes: int, **how: Any) -> None:
        if ALTERNATE_SCREEN in modes and self.behind is None:
            self.behind = copy.deepcopy(self.buffer), copy.copy(self.cursor)
            self.erase_in_display(2)
        super().set_mode(*modes, **how)

    def reset_mode(self, *modes: int, **how: Any) -> None:
        if ALTERNATE_SCREEN in modes and self.behind is not None:
            self.buffer, self.cursor = self.behind
            self.behind = None
        super().reset_mode(*modes, **how)

    def write_process_input(self, data: str) -> None:
        self.answers.append(data)


def shown(cells: Sequence[str]) -> str:
    """The text of a row of cells; the rest of a half overwritten wide character is blank, as on a terminal.

    pyte's own `display` fails on such a half, which stands there for a moment while a program moves wide characters.
    """
    text, place = "", 0
    while place < len(cells):
        wide = cells[place] != "" and wcwidth(cells[place][0]) == 2
        whole = cells[place] != "" and (not wide or [*cells[place + 1 : place + 2]] == [""])
        text += cells[place] if whole else " "
        place += 1 + (wide and whole)
    return text


class Terminal:
    """One process, its terminal's screen as cells, and all bytes that it wrote there."""

    def __init__(self, pid: int, fd: int, size: tuple[int, int]) -> None:
        self.pid, self.fd, self.raw = pid, fd, b""
        self.code: int | None = None
        self.screen = _Emulator(*size)
        self._stream = pyte.ByteStream(self.screen)

    @property
    def lines(self) -> list[str]:
        """The rows of the screen, without spaces at their ends; a wide character is one of their characters."""
        return [shown(self.row(number)).rstrip() for number in range(self.screen.lines)]

    @property
    def text(self) -> str:
        """The whole screen."""
        return "\n".join(self.lines)

    def row(self, number: int) -> list[str]:
        """The cells of one row; the second cell of a wide character is empty."""
        return [self.screen.buffer[number][column].data for column in range(self.screen.columns)]

    def until(self, condition: Callable[[], bool], limit: float = LIMIT) -> None:
        """Reads until `condition` holds; fails, with the screen, if it does not within the limit."""
        deadline = time.monotonic() + limit
        while not condition():
            assert time.monotonic() < deadline, self.text
            if not self._read_some(0.2) and self.ended():
                self._read_some(0.2)
                assert condition(), self.text

    def sees(self, *words: str, limit: float = LIMIT) -> None:
        """Waits until all words stand on the screen."""
        self.until(lambda: all(word in self.text for word in words), limit)

    def loses(self, *words: str, limit: float = LIMIT) -> None:
        """Waits until none of the words is on the screen."""
        self.until(lambda: not any(word in self.text for word in words), limit)

    def settle(self, seconds: float = 1.0) -> None:
        """Reads until nothing was written for that long."""
        while self._read_some(seconds):
            pass

    def drain(self) -> None:
        """Reads what has been written, without waiting."""
        while self._read_some(0):
            pass

    def _read_some(self, wait: float) -> bool:
        if self.fd < 0:  # it was hung up
            time.sleep(wait)
            return False
        if not select.select([self.fd], [], [], wait)[0]:
            return False
        try:
            data = os.read(self.fd, 1 << 16)
        except OSError:  # its other end is closed
            return False
        self.raw += data
        self._stream.feed(data)
        return bool(data)

    def press(self, keys: str) -> None:
        """Presses keys."""
        os.write(self.fd, keys.encode())

    def click(self, column: int, row: int) -> None:
        """Presses and releases the left button on a cell; the first is (1, 1)."""
        self.press(f"\x1b[<0;{column};{row}M\x1b[<0;{column};{row}m")

    def scroll_down(self, column: int, row: int) -> None:
        """Turns the wheel by one notch over a cell."""
        self.press(f"\x1b[<65;{column};{row}M")

    def resize(self, columns: int, rows: int) -> None:
        """Gives the terminal another size."""
        self.screen.resize(rows, columns)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def hang_up(self) -> None:
        """Closes the terminal under its program, once: its number may be another file's by then."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def left_clean(self) -> None:
        """Asserts that the shell gets its terminal back: its own screen, a cursor, and no reports of mouse or paste."""
        assert self.screen.behind is None, "the alternate screen was not left"
        assert not self.screen.cursor.hidden
        assert pyte.modes.DECAWM in self.screen.mode
        assert [mode for mode in REPORTS if mode << 5 in self.screen.mode] == []
        assert "Traceback" not in self.text

    def ended(self) -> bool:
        """Whether the process has ended."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is not None

    def wait(self, limit: float = LIMIT) -> int:
        """The exit code, once it has ended; a signal counts as negative."""
        deadline = time.monotonic() + limit
        while not self.ended():
            assert time.monotonic() < deadline, self.text
            self._read_some(0.05)
        self.drain()
        assert self.code is not None
        return self.code


@contextlib.contextmanager
def terminal(
    folder: Path, *arguments: str, size: tuple[int, int] = (120, 40), program: Sequence[str] = PROGRAM, **env: str
) -> Iterator[Terminal]:
    """Starts a program, by default the app, in `folder`; kills it if it still runs in the end."""
    known: Mapping[str, str] = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LC_ALL": "C.UTF-8", **env}
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(folder)
        # Not what libraries put into the environment behind Python's back: readline sets sizes of its own.
        inherited = {name: value for name, value in os.environ.items() if name not in ("TMUX", "COLUMNS", "LINES")}
        os.execve(program[0], [*program, *arguments], {**inherited, **known})
    app = Terminal(pid, fd, size)
    app.resize(*size)
    try:
        yield app
    finally:
        if not app.ended():
            os.kill(pid, signal.SIGKILL)
            app.wait()
        app.hang_up()
