"""What the screen of all runs shows: the runs, which of them are compared, and what the user has selected to see."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from engine.contract.texts import Lang
from sft_tui.curves import Curves
from sft_tui.lineage import Link
from sft_tui.notes import Note
from sft_tui.run_order import having, ordered
from sft_tui.runs import Run
from sft_tui.screen.charted import STYLES, Charted
from sft_tui.screen.ink import Ink
from sft_tui.screen.run_contents import Selection

PAGES = ("chart", "differences", "replies", "lineage")  # of a comparison


@dataclass(frozen=True)
class RunsView:
    """All that the screen of all runs shows."""

    runs: Sequence[Run]  # the newest first
    cursor: int = 0  # in the list, which is ordered and filtered
    marked: frozenset[str] = frozenset()
    curves: Mapping[str, Curves] = field(default_factory=dict)  # of the marked ones, and of the one under the cursor
    notes: Mapping[str, Note] = field(default_factory=dict)
    links: Mapping[str, Sequence[Link]] = field(default_factory=dict)  # to the runs that each began from
    read: bool = True  # the runs were looked for
    queue: str = ""  # what the queue is doing, in a few words
    order: str = "started"
    filter: str = ""  # words that the runs in the list have
    page: str = "chart"  # of the comparison
    whole: bool = False  # settings that are the same are shown too
    scrolled: int = 0  # lines, in a page of the comparison
    selection: Selection = field(default_factory=Selection)  # of the chart
    ink: Ink = field(default_factory=Ink)
    lang: Lang = "en"

    @property
    def listed(self) -> list[Run]:
        """The runs in the list, in its order."""
        found = having(self.runs, self.filter, self.notes) if self.filter else self.runs
        return ordered(found, self.order)

    @property
    def here(self) -> Run | None:
        """The run under the cursor; None if there is none."""
        listed = self.listed
        return listed[min(self.cursor, len(listed) - 1)] if listed else None

    @property
    def compared(self) -> list[Run]:
        """The marked runs if there are several, as many as there are colours."""
        found = [run for run in ordered(self.runs, self.order) if run.name in self.marked]
        return found[: len(STYLES)] if len(found) > 1 else []

    @property
    def charted(self) -> Charted:
        """The curves in the chart: of the compared runs, or else of the one under the cursor."""
        shown = self.compared or [run for run in (self.here,) if run is not None]
        return Charted({run.name: self.curves.get(run.name, Curves()) for run in shown})

    def changed(self, **values: Any) -> "RunsView":
        """A copy with other values, in which the cursor is on the same run as before, if that is still listed."""
        here, view = self.here, replace(self, **values)
        names = [run.name for run in view.listed]
        place = names.index(here.name) if here is not None and here.name in names else view.cursor
        return replace(view, cursor=min(place, max(0, len(names) - 1)))

    def moved(self, by: int) -> "RunsView":
        """A copy with the cursor further down, or up if `by` is negative."""
        return replace(self, cursor=min(max(0, len(self.listed) - 1), max(0, self.cursor + by)))
