"""Handlers of signals, put back: a process that a test starts inherits it if one is ignored."""

import contextlib
import signal
from collections.abc import Iterator

HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextlib.contextmanager
def put_back() -> Iterator[None]:
    """Puts back the handlers of all signals that runs, supervisors and viewers handle."""
    before = {number: signal.getsignal(number) for number in HANDLED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
