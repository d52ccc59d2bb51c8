"""What a process says when it ends, and a limit for that: a file system that is gone may block its threads forever."""

import contextlib
import os
import sys
import threading
from collections.abc import Callable

from engine.contract.harmless import harmless

SAY_SECONDS = 2.0  # for which a terminal or a file may take what is printed


class LastWords:
    """Ends this process after a limit whatever its threads wait for, and prints why on standard error, once."""

    def __init__(self) -> None:
        self._text = ""
        self._said = False
        self._timer: threading.Timer | None = None

    def end_within(self, seconds: float, text: str) -> None:
        """Has this process end with code 1 after that many seconds, with `text` unless something else was said by then.

        A later call changes only the text.
        """
        self._text = text
        if self._timer is None:
            self._timer = threading.Timer(seconds, self._end, (os._exit,))
            self._timer.daemon = True
            self._timer.start()

    def say(self, text: str) -> None:
        """Prints why this process ends."""
        self._text = text
        with contextlib.suppress(OSError, ValueError):
            print(harmless(text), file=sys.stderr, flush=True)
        self._said = True

    def _end(self, leave: Callable[[int], object]) -> None:
        if not self._said:
            saying = threading.Thread(target=self.say, args=(self._text,), daemon=True)
            saying.start()
            saying.join(SAY_SECONDS)
        leave(1)
