"""The panel with the log of a run: the lines of a level, the hits of a search, and notes in place of lines not held."""

import re
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any, NamedTuple

from engine.contract.texts import say
from sft_tui import log_fold
from sft_tui.log_lines import LogLine
from sft_tui.screen.ink import Line, Span, fit, frame
from sft_tui.screen.run_contents import RunView, Selection
from sft_tui.text import safe
from sft_tui.wrapping import wrapped

MOST_LINES = 4  # for one entry if the panel fills the screen
ROLES = {"step": "dim", "note": "", "data": "", "warning": "warn", "error": "bad", log_fold.FOLD: "accent"}
SEPARATOR: Span = (" · ", "dim")  # between the parts of the note in the frame


def draw(view: RunView, width: int, height: int) -> list[Line]:
    """The newest lines in a frame, or those that the user has scrolled to."""
    selection, lang = view.selection, view.lang
    follows = say("screen.back", lang, lines=selection.log_back) if selection.log_back else say("screen.follow", lang)
    note: Line = [*_about_search(view), (follows, "accent")]
    if selection.level != "notes":
        note = [(say(f"screen.level_{selection.level}", lang), "warn"), SEPARATOR, *note]
    body = brief(view, width - 4, height - 2)
    return frame([(say("screen.log_panel", lang), "head")], body, width, height, note)


def _about_search(view: RunView) -> Line:
    """The words searched for, and which of the hits is the current one."""
    selection, lang = view.selection, view.lang
    if not selection.search:
        return []
    found, words = hits(view), safe(selection.search, 20)
    if found and selection.hit is not None:
        counted = say("screen.hit_of", lang, number=max(1, bisect_right(found, selection.hit)), count=len(found))
    elif found:
        counted = say("screen.hits", lang, count=len(found))
    elif view.searched >= 1:
        return [(say("screen.no_line", lang, words=words), "warn"), SEPARATOR]
    else:
        counted = ""
    if view.searched < 1:
        counted += " " + say("screen.searching", lang, percent=f"{100 * view.searched:.0f}")
    return [(f"/{words} ", "warn"), (counted.strip(), "head"), SEPARATOR]


class Shown(NamedTuple):
    """The lines of the log as they are shown, and the numbers of those that are hits of the search."""

    lines: list[LogLine]
    hits: list[int]


_KEPT: deque[tuple[tuple[Any, ...], Shown]] = deque(maxlen=4)  # what was computed last, by what it was made of


def _shown(view: RunView) -> Shown:
    """What is shown of the log; the last results are kept: a key must not wait for a log of 50,000 lines."""
    selection = view.selection
    of = (selection.level, selection.search, selection.unfolded, view.earlier, view.run.name, view.lang)
    for (log, found, made_of), kept in _KEPT:
        if log is view.log and found is view.found and made_of == of:
            return kept
    held = log_fold.of_level(log_fold.joined(view.log, view.found), selection.level)
    lines = log_fold.folded(held, selection.search, selection.unfolded, view.lang)
    lines = log_fold.with_gaps(lines, view.earlier, selection.level, view.run.name, view.lang)
    words = selection.search
    shown = Shown(lines, [line.number for line in lines if log_fold.has(line, words)] if words else [])
    _KEPT.append(((view.log, view.found, of), shown))
    return shown


def shown_lines(view: RunView) -> list[LogLine]:
    """The lines of the selected level, folded, with notes in place of the lines that are not held."""
    return _shown(view).lines


def hits(view: RunView) -> list[int]:
    """The numbers of the lines that have the words searched for, in order."""
    return _shown(view).hits


def brief(view: RunView, width: int, height: int) -> list[Line]:
    """The same without a frame, the newest last: in full if the log fills the screen, else one line each."""
    lines = [row for _, rows in _window(view, width, height) for row in rows]
    return [fit(line, width) for line in lines[-height:]]


def visible(view: RunView, width: int, height: int) -> list[LogLine]:
    """The lines that `brief` shows."""
    return [line for line, _ in _window(view, width, height)]


def _window(view: RunView, width: int, height: int) -> list[tuple[LogLine, list[Line]]]:
    """The lines that are shown with their rows, of which the first may be too many."""
    found = shown_lines(view)
    end = max(0, len(found) - view.selection.log_back)
    window: deque[tuple[LogLine, list[Line]]] = deque()
    rows = 0
    for line in reversed(found[max(0, end - height) : end]):
        window.appendleft((line, _log_entry(view, line, width)))
        rows += len(window[0][1])
        if rows >= height:
            return list(window)
    for line in found[end : end + height - rows]:  # nothing is left above it
        entry = _log_entry(view, line, width)[: height - rows]
        if entry:
            window.append((line, entry))
            rows += len(entry)
    return list(window)


def _log_entry(view: RunView, line: LogLine, width: int) -> list[Line]:
    most = MOST_LINES if view.selection.page == "log" else 1
    indent = len(line.at) + 1 if line.at else 0
    parts = wrapped(line.text, max(8, width - indent), most) if most > 1 else [line.text]
    role = ROLES.get(line.level, "dim")
    words = view.selection.search if line.level in log_fold.LEVELS["all"] else ""
    here = bool(words) and view.selection.hit == line.number
    at: Line = [(line.at, "dim"), ("▸" if here else " ", "hit" if here else "dim")] if line.at else []
    rows: list[Line] = [[*at, *_marked(parts[0], role, words)]]
    return rows + [[(" " * indent, ""), *_marked(part, role, words)] for part in parts[1:]]


def _marked(text: str, role: str, words: str) -> Line:
    """A text with every occurrence of the words in a role of its own."""
    if not words or words.lower() not in text.lower():
        return [(text, role)]
    spans: Line = []
    place = 0
    for found in re.finditer(re.escape(words), text, re.IGNORECASE):
        spans += [(text[place : found.start()], role), (found[0], "hit")]
        place = found.end()
    return [*(span for span in spans if span[0]), (text[place:], role)]


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


def to_hit(view: RunView, by: int, width: int, height: int) -> Selection:
    """Moves to the next hit, or to the previous one if `by` is negative; after the last comes the first.

    Without a current hit: to the first one on the screen, or else to the newest one before it.
    """
    found, selection = hits(view), view.selection
    if not found:
        return replace(selection, hit=None)
    seen = visible(view, width, height)
    if selection.hit is None:
        place = bisect_left(found, seen[0].number if seen else 0)
        place = min(place, len(found) - 1)
        if seen and found[place] > seen[-1].number:
            place = max(0, place - 1)
    elif by > 0:
        place = bisect_right(found, selection.hit) % len(found)
    else:
        place = bisect_left(found, selection.hit) - 1
    return _to_line(replace(view, selection=replace(selection, hit=found[place])), found[place], width, height)


def _to_line(view: RunView, number: int, width: int, height: int) -> Selection:
    """Moves so that a line is on the screen, about in its middle unless it is there already."""
    if any(line.number == number for line in visible(view, width, height)):
        return view.selection
    shown = shown_lines(view)
    place = bisect_left(shown, number, key=attrgetter("number"))
    while place + 1 < len(shown) and shown[place].level == log_fold.GAP:  # has the number of the line after it
        place += 1
    last, rows = place, len(_log_entry(view, shown[place], width))
    while last + 1 < len(shown) and rows <= height // 2:
        last += 1
        rows += len(_log_entry(view, shown[last], width))
    return replace(view.selection, log_back=len(shown) - 1 - last)


def unfolded(view: RunView, width: int, height: int) -> Selection:
    """Shows what the folded lines on the screen stand for; if there are none, folds everything again."""
    seen = visible(view, width, height)
    folds = {line.number for line in seen if line.level == log_fold.FOLD}
    chosen = view.selection.unfolded | folds if folds else frozenset[int]()
    changed = replace(view, selection=replace(view.selection, unfolded=chosen))
    last = last_seen(view)
    return changed.selection if last is None else back_to(changed, last)


def last_seen(view: RunView) -> int | None:
    """The number of the last line on the screen; None if the log follows the run."""
    found, back = shown_lines(view), view.selection.log_back
    return found[max(0, len(found) - 1 - back)].number if back and found else None


def back_to(view: RunView, number: int) -> Selection:
    """Keeps the line with this number the last one on the screen."""
    return replace(view.selection, log_back=sum(line.number > number for line in shown_lines(view)))


def copied(log: Sequence[LogLine], selection: Selection) -> str:
    """The lines of the selected level, with their times."""
    return "\n".join(f"{line.at} {line.text}" for line in log_fold.of_level(log, selection.level))
