"""The panel with the log of a run: the lines that match level and search, and notes in place of those not held."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter

from engine.contract.texts import say
from sft_tui.log_lines import LogLine
from sft_tui.screen.ink import Line, fit, frame
from sft_tui.screen.run_contents import RunView, Selection
from sft_tui.text import safe
from sft_tui.wrapping import wrapped

MOST_LINES = 4  # for one entry if the panel fills the screen
ROLES = {"step": "dim", "note": "", "data": "", "warning": "warn", "error": "bad"}


def draw(view: RunView, width: int, height: int) -> list[Line]:
    """The newest matching lines in a frame."""
    selection, lang = view.selection, view.lang
    follows = say("screen.back", lang, lines=selection.log_back) if selection.log_back else say("screen.follow", lang)
    note: Line = [(follows, "accent")]
    if selection.search:
        note = [(f"/{safe(selection.search, 20)} ", "warn"), *note]
    if selection.level != "notes":
        note = [(say(f"screen.level_{selection.level}", lang) + " ", "warn"), *note]
    body = brief(view, width - 4, height - 2)
    return frame([(say("screen.log_panel", lang), "head")], body, width, height, note)


def matching(log: Sequence[LogLine], selection: Selection) -> list[LogLine]:
    """The lines of the log that are to be shown."""
    wanted = {"all": set(ROLES), "notes": {"note", "data", "warning", "error"}, "warnings": {"warning", "error"}}
    words = selection.search.lower()
    return [line for line in log if line.level in wanted[selection.level] and words in line.text.lower()]


def shown_lines(view: RunView) -> list[LogLine]:
    """These lines, with notes in place of the lines that are not held."""
    selection, earlier, lang = view.selection, view.earlier, view.lang
    found = matching(view.log, selection)
    if not found and selection.search:
        found = [_gap(say("screen.no_line", lang, words=safe(selection.search, 40)))]
    for key, gap in (("screen.gap_steps", earlier.steps), ("screen.gap_lines", earlier.notes)):
        if gap.lines and (selection.level == "all" or gap is earlier.notes):
            place = bisect_left(found, gap.before, key=attrgetter("number"))
            words = say(key, lang, count=gap.lines, run=safe(view.run.name, 40))
            found.insert(place, _gap(words, gap.before))
    if earlier.read < 1:
        found.insert(0, _gap(say("screen.reading_earlier", lang, percent=f"{100 * earlier.read:.0f}"), -(1 << 62)))
    return found


def _gap(words: str, number: int = 0) -> LogLine:
    return LogLine("", "gap", words, number)


def brief(view: RunView, width: int, height: int) -> list[Line]:
    """The same without a frame, the newest last: in full if the log fills the screen, else one line each."""
    found = shown_lines(view)
    end = max(0, len(found) - view.selection.log_back)
    lines: list[Line] = []
    for line in reversed(found[max(0, end - height) : end]):
        lines = [*_log_entry(view, line, width), *lines]
        if len(lines) >= height:
            return [fit(part, width) for part in lines[-height:]]
    for line in found[end : end + height - len(lines)]:  # nothing is left above it
        lines += _log_entry(view, line, width)
    return [fit(line, width) for line in lines[:height]]


def _log_entry(view: RunView, line: LogLine, width: int) -> list[Line]:
    most = MOST_LINES if view.selection.page == "log" else 1
    indent = len(line.at) + 1 if line.at else 0
    parts = wrapped(line.text, max(8, width - indent), most) if most > 1 else [line.text]
    role = ROLES.get(line.level, "dim")
    at: Line = [(f"{line.at} ", "dim")] if line.at else []
    return [[*at, (parts[0], role)], *([(" " * indent, ""), (part, role)] for part in parts[1:])]


def most_back(view: RunView, width: int, height: int) -> int:
    """The number of lines to scroll back until the first is at the top of a panel of this size."""
    found, rows = shown_lines(view), 0
    for place, line in enumerate(found):
        rows += len(_log_entry(view, line, width))
        if rows > height:
            return len(found) - max(1, place)
        if place >= height:
            break
    return 0


def scroll(view: RunView, by: int) -> Selection:
    """Moves to newer lines, or to older ones if `by` is negative."""
    selection, count = view.selection, len(shown_lines(view))
    return replace(selection, log_back=min(max(0, selection.log_back - by), max(0, count - 1)))
