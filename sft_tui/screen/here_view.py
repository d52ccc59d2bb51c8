"""The first screen as a pure function: what lies in the folder, and what to do next."""

from dataclasses import dataclass, field

from engine.contract.texts import Lang, say
from sft_tui.found import Found
from sft_tui.here_text import KINDS, rows_of, step_words
from sft_tui.next_steps import Step
from sft_tui.screen.ink import Ink, Line, columns, filled, fit, frame, side_by_side, tail
from sft_tui.text import safe
from sft_tui.wrapping import wrapped

WIDE = 100
LEAST_FOLDER = 12  # columns, next to what the machine has free
MOST_DETAIL, MOST_NUMBERED = 3, 9  # lines, and steps that have a key
HEAD, LEAST_WORDS = 8, 14  # columns of the kinds, and at least of what something is
NAME, USUAL_NAME = 30, 24  # columns of a name at most, and where what it is needs the others
MOST_WORDS = 3  # lines of what it is, if there is room for all of them
LEAST_STEPS = 50  # columns of the steps, next to a list that needs many


@dataclass(frozen=True)
class HereView:
    """The state that the screen shows."""

    folder: str
    found: Found = field(default_factory=lambda: Found(reading=True))
    steps: tuple[Step, ...] = ()
    cursor: int = 0
    queued: bool = False  # the first step begins as soon as it is known
    machine: str = ""  # in a few words
    unusable: str = ""  # the makers of GPUs that no run can use
    ink: Ink = field(default_factory=Ink)
    lang: Lang = "en"


def draw(view: HereView, width: int, height: int) -> list[Line]:
    """The screen without its footer, in exactly the given lines and columns."""
    title: Line = [(" sft-tui", "head"), (" · ", "dim")]
    room = width - columns(title) - columns([(view.machine, "")]) - 3
    folder = safe(view.folder, 400)
    if room >= min(LEAST_FOLDER, columns([(folder, "")])):
        folder = tail(folder, room)
        gap = " " * (room + 2 - columns([(folder, "")]))
        title += [(folder, "accent"), (gap, ""), (view.machine, "dim")]
    else:
        title.append((tail(folder, width - columns(title)), "accent"))
    if width >= WIDE:
        left = _left(view, width)
        body = side_by_side(_here(view, left, height - 1), _next(view, width - left, height - 1))
    else:
        lower = _lower(view, width, height)
        body = [*_here(view, width, height - 1 - lower), *_next(view, width, lower)]
    return filled([fit(title, width), *body], width, height)


def _left(view: HereView, width: int) -> int:
    """The columns of the left panel of a wide screen: as many as what lies here needs, within limits."""
    rows = [row for some in rows_of(view.found, view.lang).values() for row in some]
    names = min(USUAL_NAME, max((columns([(name, "")]) for name, _ in rows), default=0))
    needed = HEAD + names + 2 + max((columns([(words, "")]) for _, words in rows), default=0) + 4
    return max(width * 9 // 20, min(needed, width - LEAST_STEPS))


def _lower(view: HereView, width: int, height: int) -> int:
    """The lines of the lower panel of a narrow screen: the steps, but never more than two thirds."""
    most = (height - 1) * 2 // 3
    return max(4, min(len(_step_lines(view, width - 4, most - 2)) + 2, most))


def step_at(view: HereView, width: int, height: int, x: int, y: int) -> int:
    """The step at a position of the screen; -1 for none."""
    if width >= WIDE:
        left, top, room = _left(view, width), 2, height - 3
        if x < left:
            return -1
        inner = width - left - 4
    else:
        lower = _lower(view, width, height)
        top, room, inner = height - lower + 1, lower - 2, width - 4
    owners = _shown(view, inner, room)
    return owners[y - top][0] if 0 <= y - top < len(owners) else -1


def _here(view: HereView, width: int, height: int) -> list[Line]:
    found, lang = view.found, view.lang
    below: list[Line] = []
    if view.unusable:
        words = say("here.gpu_unseen", lang, makers=view.unusable)
        below = [fit([*fit([("GPU", "head")], HEAD), (words, "dim")], width - 4)]
    lines = _things(view, width - 4, height - 2 - len(below))
    if found.empty:
        lines = [[(say("here.reading" if found.reading else "here.nothing", lang), "dim")]]
    note: Line = [(say("here.reading", lang), "dim")] if found.reading else []
    return frame([(say("here.title", lang), "head")], [*lines, *below], width, height, note)


def _things(view: HereView, width: int, room: int) -> list[Line]:
    """The files, models and runs, a line each, and how many more there are; as many of each kind as fit."""
    rows = rows_of(view.found, view.lang)
    every, most, more = sum(map(len, rows.values())), 0, view.found.left_out
    for most in range(max(map(len, rows.values())), 0, -1):
        kept = sum(min(most, len(some)) for some in rows.values())
        more = every - kept + view.found.left_out
        if kept + bool(more) <= room:
            break
    pairs = [row for some in rows.values() for row in some]
    longest, words = (max((columns([(pair[of], "")]) for pair in pairs), default=0) for of in (0, 1))
    name_width = min(longest, NAME, max(USUAL_NAME, width - HEAD - words - 2), max(12, width - HEAD - LEAST_WORDS))
    widths = (name_width, max(1, width - HEAD - name_width - 2))
    last: list[Line] = [[(say("here.left_out", view.lang, count=more), "dim")]] if more else []
    shown: list[Line] = []
    for most_words in range(MOST_WORDS, 0, -1):
        shown = [line for kind in KINDS for line in _kind_lines(rows[kind][:most], kind, widths, most_words, view.lang)]
        if len(shown) + len(last) <= room:
            break
    return shown + last


def _kind_lines(
    rows: list[tuple[str, str]], kind: str, widths: tuple[int, int], most_words: int, lang: Lang
) -> list[Line]:
    """The files, models or runs: the name of each, and what it is, each within its columns."""
    lines: list[Line] = []
    for place, (name, words) in enumerate(rows):
        head = say(f"here.{kind}_head", lang) if not place else ""
        shown = tail(name, widths[0])
        first, *more = wrapped(words, widths[1], most_words) or [""]
        lines.append([*fit([(head, "head")], HEAD), *fit([(shown, "")], widths[0]), ("  ", ""), (first, "dim")])
        lines += [[(" " * (HEAD + widths[0] + 2), ""), (part, "dim")] for part in more]
    return lines


def _next(view: HereView, width: int, height: int) -> list[Line]:
    shown = [line for _, line in _shown(view, width - 4, height - 2)]
    note: Line = [(say("here.queued", view.lang), "accent")] if view.queued else []
    return frame([(say("here.next", view.lang), "accent")], shown, width, height, note)


def _shown(view: HereView, width: int, room: int) -> list[tuple[int, Line]]:
    """The lines of the steps that fit, with the one under the cursor."""
    items = _step_lines(view, width, room)
    places = [place for place, (owner, _) in enumerate(items) if owner == view.cursor] or [0]
    first = max(0, min(places[0], places[-1] + 1 - room))
    return items[first : first + room] if room > 0 else []


def _step_lines(view: HereView, width: int, room: int) -> list[tuple[int, Line]]:
    """Each step with its number, and below it what it does, as far as there is room."""
    items: list[tuple[int, Line]] = []
    for most in range(MOST_DETAIL, -1, -1):
        items = [item for place in range(len(view.steps)) for item in _one_step(view, place, width, most)]
        if len(items) <= room:
            break
    return items


def _one_step(view: HereView, place: int, width: int, most: int) -> list[tuple[int, Line]]:
    """A step; that under the cursor always says what it does."""
    here = place == view.cursor
    label, detail = step_words(view.steps[place], view.found, view.lang)
    number = f"{place + 1} " if place < MOST_NUMBERED else "  "
    line: Line = [("▸ " if here else "  ", "accent"), (number, "key"), (label, "select" if here else "")]
    parts = wrapped(detail, max(8, width - 4), MOST_DETAIL if here else most)
    return [(place, fit(line, width)), *((place, [(f"    {part}", "dim")]) for part in parts if part)]
