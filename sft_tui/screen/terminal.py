"""The terminal before and after the app: whether there is one, what it can show, and that it is left clean."""

import locale
import os
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from types import FrameType

from engine.contract.messages import Lang
from sft_tui.locale import say
from sft_tui.screen.ink import Ink

BARE = ("linux", "vt100", "vt102", "vt220", "dumb", "ansi")


def ink(theme: str, *, ascii_only: bool) -> Ink:
    """What this terminal can show: colours by TERM, COLORTERM and NO_COLOR, characters by locale and TERM."""
    term = os.environ.get("TERM", "")
    plain = ascii_only or term in BARE or "utf" not in locale.getpreferredencoding(False).lower()
    if theme != "auto":
        return Ink(theme, plain)
    if os.environ.get("NO_COLOR"):
        return Ink("none", plain)
    rich_colours = "256" in term or "kitty" in term or "direct" in term or bool(os.environ.get("COLORTERM"))
    return Ink("dark" if rich_colours else "16", plain)


def there_is_one() -> bool:
    """Whether a screen can be shown here."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def run(app: object, lang: Lang) -> int:
    """Runs the app to its end; its exit code. A crash ends in one line and a file, without values of variables."""
    from sft_tui.screen.app import Desk

    assert isinstance(app, Desk)

    def leave(number: int, _frame: FrameType | None) -> None:
        app.exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
    code = app.run(mouse=True)
    if app.crash:
        print(say("ui_crashed", lang, path=app.crash), file=sys.stderr)
        return 1
    return int(code or 0)


def write_crash(error: BaseException) -> str:
    """Writes where the app broke, without values of variables; the path of the file."""
    trace = "".join(traceback.format_exception(error))
    for folder in (Path.cwd() / "logs", Path(tempfile.gettempdir())):
        path = folder / f"crash-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
        try:
            path.write_text(trace, encoding="utf-8", errors="backslashreplace")
        except OSError:
            continue
        return str(path)
    return "-"
