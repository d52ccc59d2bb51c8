"""What the app asks of a conversation, read while a reply is generated."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import BinaryIO

from engine.contract.conversing import LONGEST_LINE, Say, Spoken, Stop, read_line


class Requests:
    """The lines of the app, read by a thread so that a reply can be stopped while it is generated.

    The thread calls `over` when they have ended.
    """

    def __init__(self, lines: BinaryIO, over: Callable[[], None] = lambda: None) -> None:
        self._lines, self._over = lines, over
        self._waiting: queue.SimpleQueue[Spoken | None] = queue.SimpleQueue()
        self._said = self._begun = self._stopped = 0  # replies asked for, begun, and stopped up to
        self._ended = False
        threading.Thread(target=self._read, name="requests", daemon=True).start()

    def __iter__(self) -> Iterator[Spoken]:
        """The requests in their order, up to the end of the input."""
        while (request := self._waiting.get()) is not None:
            self._begun += isinstance(request, Say)
            yield request

    def stopped(self) -> bool:
        """Whether the reply under way is to end."""
        return self._ended or self._stopped >= self._begun

    def _read(self) -> None:
        try:
            while line := self._lines.readline(LONGEST_LINE):
                request = read_line(line)
                if isinstance(request, Stop):
                    self._stopped = self._said
                else:
                    self._said += isinstance(request, Say)
                    self._waiting.put(request)
        except (TypeError, ValueError, OverflowError, RecursionError):
            pass  # it is not the app that speaks
        self._ended = True
        self._waiting.put(None)
        self._over()
