"""Timers whose time is over when a test says so, however slow the machine."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any


class Timers:
    """Takes the place of threading.Timer."""

    def __init__(self) -> None:
        self._waiting: list[Callable[[], object]] = []

    def __call__(self, seconds: float, work: Callable[..., object], given: tuple[Any, ...]) -> Any:
        """A timer, which runs nothing by itself."""
        assert seconds > 0
        return SimpleNamespace(start=lambda: self._waiting.append(lambda: work(*given)))

    def run_out(self) -> None:
        """The time of all that were started is over."""
        while self._waiting:
            self._waiting.pop()()
