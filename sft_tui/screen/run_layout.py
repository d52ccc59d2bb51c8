"""The panels of the screen of a run, and where they stand; drawing and the mouse both ask here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from sft_tui.screen import (
    actions,
    chart_panel,
    log_panel,
    machine_page,
    machine_panel,
    paged,
    samples_panel,
    settings_panel,
)
from sft_tui.screen.ink import Line
from sft_tui.screen.run_contents import RunView, Selection

WIDE, TALL = 100, 30  # from this size on, panels are side by side
ROWS = (3, 2)  # shares of the height on such a screen
LEAST_CHART = 5  # lines; on a screen with less room the log takes its place
WHEEL_LINES = 3

Draw = Callable[[RunView, int, int], list[Line]]
Scroll = Callable[[RunView, int], Selection]
Whole = Callable[[RunView, int], list[Line]]
NOWHERE = -1  # the row of a panel that has only its page


def _by_wheel(scroll: Scroll) -> Scroll:
    return lambda view, by: scroll(view, by * WHEEL_LINES)


@dataclass(frozen=True)
class Panel:
    """A panel: how it is drawn, where it stands on a wide screen, and what keys and mouse do in it."""

    draw: Draw  # in a frame, in exactly the given columns and lines
    row: int  # of a wide screen
    weight: int  # its share of that row's width
    brief: Draw | None = None  # without a frame, for a small screen
    keys: Scroll | None = None  # what up and down do where it is the only one
    wheel: Scroll | None = None
    page: Draw | None = None  # how it fills the screen, if not as elsewhere
    whole: Whole | None = None  # all lines of that page, inside its frame
    actions: tuple[str, ...] = ()  # whose effect is visible here only


# In the order of their pages; in a row from left to right.
PANELS = {
    "settings": Panel(
        settings_panel.draw,
        row=NOWHERE,
        weight=1,
        keys=paged.scroll,
        wheel=_by_wheel(paged.scroll),
        whole=settings_panel.lines,
    ),
    "chart": Panel(
        chart_panel.draw,
        row=0,
        weight=3,
        wheel=chart_panel.zoom,
        actions=actions.names(actions.CHART),
    ),
    "samples": Panel(
        samples_panel.draw,
        row=1,
        weight=1,
        keys=samples_panel.scroll,
        wheel=samples_panel.scroll,
        page=samples_panel.page,
        whole=samples_panel.whole,
    ),
    "log": Panel(
        log_panel.draw,
        row=1,
        weight=1,
        brief=log_panel.brief,
        keys=log_panel.scroll,
        wheel=_by_wheel(log_panel.scroll),
        actions=("search", "level", "next_hit", "previous_hit", "unfold"),
    ),
    "machine": Panel(
        machine_panel.draw,
        row=0,
        weight=2,
        brief=machine_panel.brief,
        keys=paged.scroll,
        wheel=_by_wheel(paged.scroll),
        page=machine_page.draw,
        whole=machine_page.lines,
    ),
}
ALL = "all"
PAGES = (ALL, *PANELS)


@dataclass(frozen=True)
class Area:
    """A rectangle of the screen, in columns and lines, with the panel in it."""

    name: str
    x: int
    y: int
    width: int
    height: int
    framed: bool = True
    alone: bool = False  # whether it fills the screen

    @property
    def panel(self) -> Panel:
        """What is shown there."""
        return PANELS[self.name]

    @property
    def inside(self) -> tuple[int, int]:
        """Columns and lines without the frame."""
        return (self.width - 4, self.height - 2) if self.framed else (self.width, self.height)

    def draw(self, view: RunView) -> list[Line]:
        """The panel, in exactly this size."""
        draw = self.panel.draw if self.framed else self.panel.brief
        if self.alone and self.panel.page is not None:
            draw = self.panel.page
        assert draw is not None
        return draw(view, self.width, self.height)

    def holds(self, x: int, y: int) -> bool:
        """Whether a cell of the screen is in it."""
        return self.x <= x < self.x + self.width and self.y <= y < self.y + self.height


def areas(page: str, width: int, height: int, top: int) -> list[Area]:
    """The panels of a page on a screen of this size, from line `top` on; from left to right and downwards."""
    body = height - top
    if page != ALL:
        return [Area(page, 0, top, width, body, alone=True)]
    return _wide(width, body, top) if width >= WIDE and height >= TALL else _narrow(width, body, top)


def _wide(width: int, body: int, top: int) -> list[Area]:
    found = []
    for row, (y, height) in enumerate(_shares(body, ROWS)):
        names = [name for name, panel in PANELS.items() if panel.row == row]
        columns = _shares(width, [PANELS[name].weight for name in names])
        found += [Area(name, x, top + y, part, height) for name, (x, part) in zip(names, columns, strict=True)]
    return found


def _narrow(width: int, body: int, top: int) -> list[Area]:
    """The machine in a line or two between chart and log; on a low screen only these and the log, without frames."""
    machine = 2 if body >= 14 else 1
    log = 5 if body >= 15 else 3
    chart = body - machine - log
    if chart < LEAST_CHART:
        return [
            Area("machine", 0, top, width, machine, framed=False),
            Area("log", 0, top + machine, width, body - machine, framed=False),
        ]
    return [
        Area("chart", 0, top, width, chart),
        Area("machine", 0, top + chart, width, machine, framed=False),
        Area("log", 0, top + chart + machine, width, log),
    ]


def _shares(whole: int, weights: Sequence[int]) -> list[tuple[int, int]]:
    """Begin and length of each part of `whole`."""
    ends = [whole * weight // sum(weights) for weight in accumulate(weights)]
    return [(begin, end - begin) for begin, end in zip([0, *ends], ends, strict=False)]
