"""When the steps of transformers' trainer, and of those made from it, begin and end."""

import time
from typing import Any

from transformers import TrainerCallback


class Clock(TrainerCallback):
    """Records it, in seconds of `time.perf_counter`."""

    def __init__(self) -> None:
        self.began = 0.0
        self.ends: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Records when the first step begins."""
        self.began = self.began or time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Records when a step ends."""
        self.ends.append(time.perf_counter())
