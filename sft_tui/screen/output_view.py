"""The screen with what a run's processes printed, as a pure function: the end of a file, and which lines are shown."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

from engine.contract.texts import Lang, say
from sft_tui.screen.ink import Line, filled, frame
from sft_tui.text import safe
from sft_tui.wrapping import wrap


@dataclass(frozen=True)
class OutputView:
    """The state that the screen shows."""

    run: str
    file: str  # "trainer" or "supervisor"
    lines: Sequence[str] = ()  # harmless
    begins: Sequence[int] = ()  # where in the file each begins, in bytes
    cut: bool = False  # whether the file has more before them
    back: int = 0  # lines of the file between the last one shown and the newest
    fault: str = ""
    lang: Lang = "en"


def continued(view: OutputView, lines: Sequence[str], begins: Sequence[int], *, cut: bool) -> OutputView:
    """The view of the file as it is now; one that was scrolled back stays at its last line while that is held."""
    back = 0
    if view.back and view.begins:
        last = view.begins[max(0, len(view.begins) - 1 - view.back)]
        back = max(1, len(begins) - bisect_right(begins, last))
    return replace(view, lines=lines, begins=begins, cut=cut, back=back)


def draw(view: OutputView, width: int, height: int) -> list[Line]:
    """The newest lines in a frame, from the one scrolled to upwards."""
    lang, room = view.lang, height - 2
    title: Line = [(safe(view.run, 40), "head"), (" · ", "dim"), (say(f"screen.output_{view.file}", lang), "head")]
    if view.fault:
        body: list[Line] = [[(part, "bad")] for part in wrap(safe(view.fault, 600), max(1, width - 4))]
        return frame(title, body, width, height)
    if not view.lines:
        return frame(title, [[(say("screen.output_none", lang), "dim")]], width, height)
    back = min(view.back, most_back(view, width, height))
    end = len(view.lines) - back
    shown: list[Line] = []
    for line in reversed(view.lines[max(0, end - room) : end]):
        shown = [*([(part, "")] for part in wrap(line, max(1, width - 4))), *shown]
        if len(shown) >= room:
            break
    if len(shown) < room and view.cut:
        shown = [[(say("screen.output_cut", lang, run=safe(view.run, 40)), "dim")], *shown]
    follows = say("screen.back", lang, lines=back) if back else say("screen.follow", lang)
    return frame(title, filled(shown[-room:], width - 4, room), width, height, [(follows, "accent")])


def most_back(view: OutputView, width: int, height: int) -> int:
    """The number of lines to scroll back until the first is at the top."""
    rows = 1 if view.cut else 0
    for place, line in enumerate(view.lines):
        rows += len(wrap(line, max(1, width - 4)))
        if rows > height - 2:
            return len(view.lines) - max(1, place)
        if place >= height:
            break
    return 0
