"""Pages of the screen of a run that are longer than the screen: scrolled by lines, and cut to the screen."""

from collections.abc import Sequence
from dataclasses import replace

from sft_tui.screen.ink import Line, frame
from sft_tui.screen.run_contents import RunView, Selection


def page(view: RunView, title: Line, body: Sequence[Line], width: int, height: int) -> list[Line]:
    """The lines from where the user has scrolled to, in a frame that says which they are if not all are shown."""
    first = min(view.selection.scrolled, most_scrolled(len(body), height))
    last = min(len(body), first + height - 2)
    note: Line = [(f"{first + 1}-{last}/{len(body)}", "dim")] if len(body) > height - 2 else []
    return frame(title, body[first:], width, height, note)


def most_scrolled(lines: int, height: int) -> int:
    """The number of lines above the first one shown if the last one is at the bottom of a frame of this height."""
    return max(0, lines - max(1, height - 2))


def scroll(view: RunView, by: int) -> Selection:
    """Moves down the page, or up if `by` is negative."""
    return replace(view.selection, scrolled=max(0, view.selection.scrolled + by))
