"""What the screen of a run shows: the run, its curves and its log, and what the user has selected to see of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from engine.contract.texts import Lang
from sft_tui.curves import Curves
from sft_tui.log_lines import Earlier, LogLine
from sft_tui.run_facts import RunFacts
from sft_tui.run_state import RunState
from sft_tui.runs import Run
from sft_tui.screen.ink import Ink

SHORTEST_WINDOW = 16  # steps of a chart
SMOOTHINGS = (0, 8, 24, 64)  # steps


@dataclass(frozen=True)
class Selection:
    """What the user has selected to see: the curve and part of it, the lines of the log, the panels."""

    metric: str = "loss"
    log_scale: bool = False
    window: int = 0  # steps in the chart; 0: all
    back: int = 0  # steps between the right edge and the newest
    smoothing: int = SMOOTHINGS[1]  # steps that the line is the exponential mean of; 0: none
    uncut: bool = False  # the chart shows all values, however few they are
    cursor: int = 0  # the step under the cursor; 0: no cursor
    level: str = "notes"
    search: str = ""
    hit: int | None = None  # the number of the line with the current hit of the search
    unfolded: frozenset[int] = frozenset()  # what is not folded, by the number of its first line
    log_back: int = 0  # lines between the last one shown and the newest
    page: str = "all"
    sample: int = 0  # the first one shown
    scrolled: int = 0  # lines of the page that are above the first one shown

    def zoomed(self, by: float, steps: int, grain: int = 1) -> "Selection":
        """A copy with more or fewer steps in the chart; `grain` is the number of steps per bucket of the curve."""
        window = round((self.window or steps) * by)
        if window >= steps:
            return replace(self, window=0, back=0)
        window = max(SHORTEST_WINDOW * grain, window)
        return replace(self, window=window, back=min(self.back, max(0, steps - window)))

    def panned(self, by: int, steps: int) -> "Selection":
        """A copy moved by quarters of the window, to earlier steps if `by` is positive."""
        if not self.window:
            return self
        back = self.back + by * max(1, self.window // 4)
        return replace(self, back=min(max(0, back), max(0, steps - self.window)))

    def kept(self, lines: int, steps: int) -> "Selection":
        """A copy that, if scrolled back, shows the same lines and steps after this many new ones."""
        return replace(
            self,
            log_back=self.log_back + lines if self.log_back else 0,
            back=self.back + steps if self.window and self.back else self.back,
        )

    def next(self, name: str, choices: Sequence[str], by: int = 1) -> "Selection":
        """A copy with the next of several choices, or with the previous one if `by` is -1."""
        now = choices.index(getattr(self, name)) if getattr(self, name) in choices else -by
        changed: dict[str, Any] = {name: choices[(now + by) % len(choices)]}
        return replace(self, **changed)


@dataclass(frozen=True)
class RunView:
    """All that the screen of a run shows."""

    run: Run
    curves: Curves
    log: Sequence[LogLine]
    selection: Selection = field(default_factory=Selection)
    ink: Ink = field(default_factory=Ink)
    lang: Lang = "en"
    reading: float = 1.0  # share of the stream read so far
    now: float = 0.0  # seconds since 1970; 0: not shown
    earlier: Earlier = field(default_factory=Earlier)  # the parts that the log does not hold
    found: Sequence[LogLine] = ()  # lines with the words searched for, held or not
    searched: float = 1.0  # share of the log that was searched
    facts: RunFacts = field(default_factory=RunFacts)

    @property
    def state(self) -> RunState:
        """The state of the run."""
        return self.run.state
