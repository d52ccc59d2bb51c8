"""One widget for the whole screen: it gets lines and redraws the spans that changed."""

import re
from collections.abc import Sequence

from rich.cells import cell_len
from rich.segment import Segment
from textual.events import MouseDown, MouseScrollDown, MouseScrollUp
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from sft_tui.screen.ink import Ink, Line

# Texts whose every character takes one column: what most of a screen and all of a chart is made of.
NARROW = re.compile("[ -\u007e\u00a0-\u00ac\u00ae-\u02ff\u2500-\u25cf\u2800-\u28ff]*")

Cell = tuple[str, str]  # a character and its role; the second half of a wide one is empty


class Canvas(Widget):
    """Shows lines as they are; nothing in them is markup."""

    DEFAULT_CSS = "Canvas { width: 100%; height: 100%; }"

    class Clicked(Message):
        """A mouse click on a cell."""

        def __init__(self, canvas: "Canvas", x: int, y: int) -> None:
            super().__init__()
            self.canvas, self.x, self.y = canvas, x, y

    class Wheeled(Message):
        """A turn of the wheel over a cell: up if `by` is negative."""

        def __init__(self, x: int, y: int, by: int) -> None:
            super().__init__()
            self.x, self.y, self.by = x, y, by

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[Line] = []
        self._cells: list[list[Cell]] = []
        self._ink = Ink()

    def put(self, lines: Sequence[Line], ink: Ink) -> None:
        """Shows these lines from now on; only the differences are redrawn."""
        known = zip(self._lines, self._cells, strict=True)
        before = [*known, *[([], [])] * (len(lines) - len(self._lines))]
        cells = [of if line == old else _cells(line) for line, (old, of) in zip(lines, before, strict=False)]
        if ink != self._ink or len(cells) != len(self._cells):
            self._ink, self._lines, self._cells = ink, list(lines), cells
            self.refresh()
            return
        regions = [
            Region(found[0], y, found[1] - found[0], 1)
            for y, (old, new) in enumerate(zip(self._cells, cells, strict=True))
            if old is not new and (found := _changed(old, new)) is not None
        ]
        self._lines, self._cells = list(lines), cells
        if regions:
            self.refresh(*regions)

    def render_line(self, y: int) -> Strip:
        """One line of the screen."""
        if y >= len(self._lines):
            return Strip.blank(self.size.width, self._ink.style(""))
        segments = [Segment(self._ink.text(text), self._ink.style(role)) for text, role in self._lines[y] if text]
        return Strip(segments).adjust_cell_length(self.size.width, self._ink.style(""))

    def on_mouse_down(self, event: MouseDown) -> None:
        """Posts the position."""
        self.post_message(self.Clicked(self, event.x, event.y))

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        """Posts the position."""
        self.post_message(self.Wheeled(event.x, event.y, -1))

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        """Posts the position."""
        self.post_message(self.Wheeled(event.x, event.y, 1))


def _cells(line: Line) -> list[Cell]:
    cells: list[Cell] = []
    for text, role in line:
        if NARROW.fullmatch(text):
            cells += [(char, role) for char in text]
            continue
        for char in text:
            size = cell_len(char)
            if size == 0 and cells:  # a combining mark on the previous character
                cells[-1] = (cells[-1][0] + char, cells[-1][1])
                continue
            cells.append((char, role))
            cells.extend([("", role)] * (size - 1))
    return cells


def _changed(old: list[Cell], new: list[Cell]) -> tuple[int, int] | None:
    """The stretch of a line from the first cell that differs to the last, extended to whole characters.

    It is one, since Textual writes a line from its beginning for every stretch of it.
    """
    if len(old) != len(new):
        return 0, max(len(old), len(new))
    first, last = 0, len(new)
    while first < last and old[first] == new[first]:
        first += 1
    if first == last:
        return None
    while old[last - 1] == new[last - 1]:
        last -= 1
    while first and (not old[first][0] or not new[first][0]):
        first -= 1
    while last < len(new) and (not old[last][0] or not new[last][0]):
        last += 1
    return first, last
