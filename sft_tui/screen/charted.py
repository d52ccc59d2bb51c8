"""Which curves a chart shows, and which of their steps."""

from collections.abc import Mapping
from dataclasses import dataclass

from sft_tui.curves import Curves
from sft_tui.screen.run_contents import Selection

FIRST_EDGE = 64
ZOOM = 2.0


@dataclass(frozen=True)
class Charted:
    """The curves in a chart: of one run, or of several that are compared, in their order, by the runs' names."""

    runs: Mapping[str, Curves]
    alive: bool = False  # a single run still writes, so that its axis reaches further than its newest step
    steps_total: int = 0  # of a run that is alive; 0: unknown

    @property
    def steps(self) -> int:
        """The newest step of all runs."""
        return max((curves.of["loss"].last for curves in self.runs.values()), default=0)

    @property
    def grain(self) -> int:
        """Steps per bucket of the finest curve."""
        return min((curves.of["loss"].width for curves in self.runs.values()), default=1)

    def shown(self, selection: Selection) -> tuple[int, int]:
        """The first and the last step of the axis."""
        total = max(self.steps, 1)
        if not selection.window:
            return 1, edge(total, self.steps_total) if self.alive else total
        last = max(1, total - selection.back)
        return max(1, last - selection.window + 1), last

    def zoomed(self, selection: Selection, by: int) -> Selection:
        """A selection of twice as many steps, or of half of them if `by` is negative."""
        return selection.zoomed(ZOOM if by > 0 else 1 / ZOOM, max(1, self.steps), self.grain)


def edge(step: int, steps_total: int) -> int:
    """The end of the axis of a growing run: it doubles, so that what was drawn stays in place for a long time."""
    last = FIRST_EDGE
    while last < step:
        last *= 2
    return max(step, min(last, steps_total or last))
