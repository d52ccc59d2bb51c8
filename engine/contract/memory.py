"""The predicted peaks of memory of a run: what the engine answers, and the app judges."""

from collections.abc import Mapping
from dataclasses import dataclass

from engine.contract.bounds import Count, Name


@dataclass(frozen=True)
class MemoryPrediction:
    """Bytes of one rank by purpose, and their sum; `phase` is when the peak is reached.

    `unsure`: bytes that may come on top, depending on what a GPU's libraries choose.
    """

    items: dict[Name, Count]
    phase: Name
    unsure: Count = 0

    @property
    def total(self) -> int:
        """The sum."""
        return sum(self.items.values())

    @classmethod
    def largest(cls, phases: Mapping[str, dict[str, int]]) -> "MemoryPrediction":
        """The prediction for the phase that needs the most."""
        phase = max(phases, key=lambda name: sum(phases[name].values()))
        return cls(phases[phase], phase)


@dataclass(frozen=True)
class MemoryFacts:
    """The peaks in the machine's memory and on the rank's GPU; None if there is none or it is unknown."""

    host: MemoryPrediction | None = None
    device: MemoryPrediction | None = None
