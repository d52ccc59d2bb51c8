"""The program behind one tab of a browser: `python -m sft_tui.serving.browser_viewer LOGS LANG THEME SERVER`.

Its terminal is the connection to the server, as Textual's web driver has it: closed with the tab.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import NoReturn

from engine.contract.texts import LANGS
from sft_tui.screen.app import show
from sft_tui.screen.base import Options
from sft_tui.screen.ink import THEMES, Ink

DRIVER = "TEXTUAL_DRIVER"  # set by the server
SERVER_SECONDS, END_SECONDS = 1.0, 5.0  # between two looks at the server; for the app to end in order


def end_with(server: int) -> None:
    """Ends this process once the server that started it was killed: then no key arrives that would end it."""
    while os.getppid() == server:
        time.sleep(SERVER_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)  # the app ends what it has in the background
    time.sleep(END_SECONDS)
    os._exit(128 + signal.SIGTERM)


def main(logs: str, lang: str, theme: str, server: str) -> NoReturn:
    """Shows the screen until the tab is closed, or the process `server` is gone."""
    if DRIVER not in os.environ:
        sys.exit("This program is started by `sft-tui serve`.")
    threading.Thread(target=end_with, args=(int(server),), daemon=True).start()
    chosen = next(known for known in LANGS if known == lang)
    show(Options(Path(logs), chosen, Ink(theme if theme in THEMES else "dark")))


if __name__ == "__main__":
    main(*sys.argv[1:5])
