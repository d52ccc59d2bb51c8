"""Which signals ask a process of a run to stop, and when one of them is a second request."""

import signal
import time

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# One request can arrive as several signals: a launcher forwards Ctrl-C, a shutdown signals parent and child. A second
# request comes later than this, in seconds.
SECOND_REQUEST_AFTER = 3.0


class FirstRequest:
    """When a process was first asked to stop (`at`), and its progress then (a count that grows as it works)."""

    def __init__(self, progress: int = 0) -> None:
        self.at, self._progress = time.monotonic(), progress

    def repeated(self, progress: int = 1) -> bool:
        """Whether a signal being handled now is a second request.

        Python runs a handler only between two instructions, so one signal's echo may be handled only at the end of a
        matrix product that takes ten seconds: until the process has made progress, all signals are the same request.
        """
        return progress != self._progress and time.monotonic() - self.at > SECOND_REQUEST_AFTER
