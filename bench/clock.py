"""When the steps of transformers' trainer, and of those made from it, begin and end."""

import time
from typing import Any

from transformers import TrainerCallback

from bench import device


class Clock(TrainerCallback):
    """Records it, in seconds of `time.perf_counter`; a step ends when the GPU, if it computes there, has done it."""

    def __init__(self) -> None:
        self.began = 0.0
        self.ends: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Records when the first step begins."""
        self.began = self.began or time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Records when a step ends."""
        device.finish()
        self.ends.append(time.perf_counter())

    @property
    def seconds(self) -> list[float]:
        """The time of every step after the first."""
        return [after - before for before, after in zip(self.ends, self.ends[1:], strict=False)]


def later_steps(counts: list[int], micro_batches: int) -> list[int]:
    """Sums of the counts of all micro-batches, by step, without the first step."""
    return [sum(counts[at : at + micro_batches]) for at in range(micro_batches, len(counts), micro_batches)]
