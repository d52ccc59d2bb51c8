"""The lines of JSON in which the inspecting process answers: what is being read, how far it is, and the facts."""

import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

PACE = 0.2  # minimum seconds between two lines of progress


def send(**what: Any) -> None:
    """Writes one line of the answer."""
    sys.stdout.write(json.dumps(what) + "\n")  # ASCII, whatever the locale
    sys.stdout.flush()


def paced(name: str) -> Callable[[int, int], None]:
    """A function that reports progress on `name`, done of all, but not more often than every PACE seconds."""
    last = 0.0

    def report(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= PACE:
            last = now
            send(doing=name, done=done, total=total)

    return report


def paced_files() -> Callable[[str, int, int], None]:
    """The same for several files, each at its own pace."""
    reports: dict[str, Callable[[int, int], None]] = {}

    def report(path: str, done: int, total: int) -> None:
        reports.setdefault(path, paced(path))(done, total)

    return report


def repeat(doing: str, over: threading.Event) -> None:
    """Reports what is being done again and again until `over`: a process that is silent for long is given up."""
    while not over.wait(PACE * 10):
        send(doing=doing)
