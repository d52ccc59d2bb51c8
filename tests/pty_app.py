"""The app on a pseudo-terminal, as a terminal emulator would run it."""

import contextlib
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

PROGRAM = [sys.executable, "-m", "sft_tui"]
LIMIT = 20.0


class Screen:
    """One process of the app and what it wrote to its terminal."""

    def __init__(self, pid: int, fd: int) -> None:
        self.pid, self.fd, self.raw = pid, fd, b""
        self.code: int | None = None

    def read(self, until: Callable[[bytes], bool], limit: float = LIMIT) -> None:
        """Reads until what was written satisfies; fails when it does not within the limit."""
        deadline = time.monotonic() + limit
        while not until(self.raw):
            assert time.monotonic() < deadline, self.raw[-2000:]
            if not self._read_some(0.2) and self.ended():
                self._read_some(0.2)
                assert until(self.raw), self.raw[-2000:]

    def settle(self, seconds: float = 1.0) -> None:
        """Reads until nothing was written for so long."""
        while self._read_some(seconds):
            pass

    def _read_some(self, wait: float) -> bool:
        if not select.select([self.fd], [], [], wait)[0]:
            return False
        try:
            data = os.read(self.fd, 1 << 16)
        except OSError:  # its other end is closed
            return False
        self.raw += data
        return bool(data)

    def press(self, keys: str) -> None:
        """Presses keys."""
        os.write(self.fd, keys.encode())

    def resize(self, columns: int, rows: int) -> None:
        """Gives the terminal another size."""
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

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
            assert time.monotonic() < deadline
            self._read_some(0.05)
        self._read_some(0.05)
        assert self.code is not None
        return self.code


@contextlib.contextmanager
def screen(
    folder: Path, *arguments: str, size: tuple[int, int] = (120, 40), program: Sequence[str] = PROGRAM, **env: str
) -> Iterator[Screen]:
    """Starts the app in `folder`, and kills it if it is still there in the end."""
    known: Mapping[str, str] = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LC_ALL": "C.UTF-8", **env}
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(folder)
        # Not what libraries put into the environment behind Python's back: readline tells sizes of its own.
        inherited = {name: value for name, value in os.environ.items() if name not in ("TMUX", "COLUMNS", "LINES")}
        os.execve(program[0], [*program, *arguments], {**inherited, **known})
    app = Screen(pid, fd)
    app.resize(*size)
    try:
        yield app
    finally:
        if not app.ended():
            os.kill(pid, signal.SIGKILL)
            app.wait()
        with contextlib.suppress(OSError):
            os.close(fd)
