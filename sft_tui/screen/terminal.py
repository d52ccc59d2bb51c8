"""The terminal before and after the app: whether there is one, what it can show, and its cleanup."""

import asyncio
import contextlib
import locale
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from sft_tui.screen.ink import Ink

LATEST_SECONDS = 2.0
NO_MOUSE = "\x1b[?1000l\x1b[?1003l\x1b[?1015l\x1b[?1006l"
BARE = ("linux", "vt100", "vt102", "vt220", "dumb", "ansi")


def ink(theme: str, *, ascii_only: bool) -> Ink:
    """How to draw on this terminal: colours by TERM, COLORTERM and NO_COLOR, characters by locale and TERM."""
    term = os.environ.get("TERM", "")
    plain = ascii_only or term in BARE or "utf" not in locale.getpreferredencoding(False).lower()
    if theme != "auto":
        return Ink(theme, plain)
    if os.environ.get("NO_COLOR"):
        return Ink("none", plain)
    rich_colours = "256" in term or "kitty" in term or "direct" in term or bool(os.environ.get("COLORTERM"))
    return Ink("dark" if rich_colours else "16", plain)


def is_available() -> bool:
    """Whether a screen can be shown here."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def write(data: str) -> None:
    """Writes a sequence to the terminal when no screen is shown; a terminal that is gone is ignored."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.write(data)
        sys.stdout.flush()


def end_on_signals(leave: Callable[[int], None], restore: Callable[[], None]) -> None:
    """Makes SIGTERM end the app in order, at the latest after a moment, and SIGHUP at once, as the terminal is gone.

    `restore` gives the terminal back, in another thread, if the app did not end in that time.
    """
    loop, code = asyncio.get_running_loop(), 128 + signal.SIGTERM

    def leave_late() -> None:
        _later(os._exit, code)  # a terminal that takes nothing more must not keep it
        with contextlib.suppress(Exception):
            restore()
        os._exit(code)

    def leave_soon() -> None:
        _later(leave_late)
        leave(code)

    loop.add_signal_handler(signal.SIGTERM, leave_soon)
    loop.add_signal_handler(signal.SIGHUP, os._exit, 128 + signal.SIGHUP)


def _later(act: Callable[..., None], *given: int) -> None:
    late = threading.Timer(LATEST_SECONDS, act, given)
    late.daemon = True
    late.start()


def write_crash(error: BaseException) -> str:
    """Writes the place of a crash, without values of variables; returns the path of the file."""
    trace = "".join(traceback.format_exception(error))
    for folder in (Path.cwd() / "logs", Path(tempfile.gettempdir())):
        try:  # for this user only, under an unpredictable name
            fd, path = tempfile.mkstemp(".txt", f"crash-{time.strftime('%Y%m%d-%H%M%S')}-", folder)
            with open(fd, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(trace)
        except OSError:
            continue
        return path
    return "-"
