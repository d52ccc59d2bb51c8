"""Runs compared, as pages of an exact size: their curves, what differs, their replies, and which began from which."""

from collections.abc import Callable, Sequence
from itertools import zip_longest

from engine.contract.texts import say
from sft_tui import comparison, lineage
from sft_tui.comparison import Replies, Row
from sft_tui.listing import best_score
from sft_tui.runs import Run
from sft_tui.screen import chart_panel
from sft_tui.screen.charted import STYLES
from sft_tui.screen.ink import Line, Span, columns, fit, frame, side_by_side
from sft_tui.screen.runs_contents import PAGES, RunsView
from sft_tui.text import number, safe
from sft_tui.wrapping import wrapped

WIDE = 100  # columns; from this width on, two pages are side by side
PAIRS = (("chart", "differences", 9 / 20), ("replies", "lineage", 2 / 3))  # and the share of the left one
NAME = 30  # columns of a setting's name
LEAST_REPLY = 14  # columns; with less room, replies stand below each other
MOST_PROMPT, MOST_REPLY = 4, 16  # lines
LONGEST = 4000  # characters of a text
GAP = 2  # columns between two replies


def draw(view: RunsView, width: int, height: int) -> list[Line]:
    """The page that is selected, and on a wide screen the one next to it."""
    areas = areas_of(view.page, width)
    scrolls, _ = _scrolling(areas)
    return side_by_side(
        *(_page(view, page, part, height, view.scrolled if page == scrolls else 0) for page, part in areas)
    )


def _scrolling(areas: Sequence[tuple[str, int]]) -> tuple[str, int]:
    """The page that is scrolled, with its width: the first that is not the chart."""
    return next((area for area in areas if area[0] != "chart"), ("", 0))


def areas_of(page: str, width: int) -> list[tuple[str, int]]:
    """The pages on the screen with their widths."""
    if width < WIDE:
        return [(page, width)]
    left, right, share = next(pair for pair in PAIRS if page in pair)
    part = round(width * share)
    return [(left, part), (right, width - part)]


def next_page(page: str, width: int) -> str:
    """The page after one: after those on the screen come the next ones."""
    shown = [name for name, _ in areas_of(page, width)]
    return PAGES[(PAGES.index(shown[-1]) + 1) % len(PAGES)]


def chart_size(view: RunsView, width: int, height: int) -> tuple[int, int]:
    """Columns and lines of the chart; 0 of both if it is not on the screen."""
    return next(((part, height) for page, part in areas_of(view.page, width) if page == "chart"), (0, 0))


def most_scrolled(view: RunsView, width: int, height: int) -> int:
    """How many lines the page can be scrolled."""
    page, part = _scrolling(areas_of(view.page, width))
    if not page:
        return 0
    head, body, _ = CONTENTS[page](view, part - 4)
    return max(0, len(body) - max(1, height - 2 - len(head)))


def _page(view: RunsView, page: str, width: int, height: int, scrolled: int) -> list[Line]:
    if page == "chart":
        return chart_panel.overlay(view.charted, view.selection, view.ink, view.lang, width, height)
    head, body, note = CONTENTS[page](view, width - 4)
    rows = max(1, height - 2 - len(head))
    begin = min(scrolled, max(0, len(body) - rows))
    rest = len(body) - begin - rows
    note = [*note, *([(f" ↓ {rest}", "dim")] if rest > 0 else [])]
    title = say("screen.differences" if page == "differences" else f"screen.compared_{page}", view.lang)
    return frame([(title, "head")], [*head, *body[begin : begin + rows]], width, height, note)


def _titles(compared: Sequence[Run], column: int) -> list[str]:
    """A run's number identifies it; the beginning of its name is mostly the preset's."""
    return [f"{place + 1} {_end_of(safe(run.name, 60), column - 3)}" for place, run in enumerate(compared)]


Content = tuple[list[Line], list[Line], Line]  # lines that stay, lines that scroll, and a note


def _differences(view: RunsView, width: int) -> Content:
    """Scores and settings next to each other: those that differ first and marked, then how many are the same."""
    compared, lang = view.compared, view.lang
    names = max(min(20, width // 2), min(NAME, width - 12 * len(compared)))
    column = max(6, (width - names) // len(compared))

    def line(name: Span, values: Sequence[str], roles: Sequence[str], mark: str = "  ") -> Line:
        cells = [span for value, role in zip(values, roles, strict=True) for span in _cell(value, role, column)]
        return fit([(mark, "warn"), *fit([name], names - 2), *cells], width)

    def lines(rows: Sequence[Row], role: str, mark: str = "  ") -> list[Line]:
        alike = [role] * len(compared)
        return [line((safe(row.name, 60), role), [number(value) for value in row.values], alike, mark) for row in rows]

    differing, same = comparison.settings(compared)
    body = [*lines(comparison.scores(compared, lang), "head"), *lines(differing, "", "! ")]
    if not differing:
        body.append([(say("screen.same_settings", lang), "dim")])
    body += lines(comparison.measures(compared, lang), "dim")
    body += lines(same, "dim") if view.whole else [[(say("app.compared_same", lang, count=len(same)), "accent")]]
    note: Line = [(f"! {len(differing)}", "warn")] if differing else []
    return [line(("", ""), _titles(compared, column), STYLES[: len(compared)])], body, note


def _replies(view: RunsView, width: int) -> Content:
    """The prompts of the evaluations, each with the reply of every run in a column of its own."""
    compared, lang = view.compared, view.lang
    found = comparison.replies(compared)
    if not found:
        return [], [[(say("screen.no_replies", lang), "dim")]], []
    side = (width - GAP * (len(compared) - 1)) // len(compared)
    columned = side >= LEAST_REPLY
    body: list[Line] = []
    for place, one in enumerate(found):
        body += [[], *_asked(view, one, width)] if place else _asked(view, one, width)
        body += _next_to_each_other(one, side) if columned else _below_each_other(one, width)
    head = _columns([[(title, role)] for title, role in zip(_titles(compared, side), STYLES, strict=False)], side)
    return [head] if columned else [], body, [(f"{len(found)}", "dim")]


def _asked(view: RunsView, one: Replies, width: int) -> list[Line]:
    lines: list[Line] = []
    for key, words, role in (("screen.prompt", one.prompt, "head"), ("screen.reference", one.reference, "dim")):
        label = say(key, view.lang)
        indent = columns([(label, "")]) + 1
        for place, part in enumerate(wrapped(_flat(words), max(4, width - indent), MOST_PROMPT)):
            lines.append([*fit([("" if place else label, "accent")], indent), (part, role)])
    return lines


def _next_to_each_other(one: Replies, side: int) -> list[Line]:
    parts = [wrapped(_flat(reply), side, MOST_REPLY) if reply is not None else ["-"] for reply in one.replies]
    return [
        _columns([[(part, "dim" if reply is None else "")] for part, reply in zip(row, one.replies, strict=True)], side)
        for row in zip_longest(*parts, fillvalue="")
    ]


def _below_each_other(one: Replies, width: int) -> list[Line]:
    lines: list[Line] = []
    for place, reply in enumerate(one.replies[: len(STYLES)]):
        for row, part in enumerate(wrapped(_flat(reply) if reply is not None else "-", max(4, width - 2), MOST_REPLY)):
            lines.append([("  " if row else f"{place + 1} ", STYLES[place]), (part, "")])
    return lines


def _columns(cells: Sequence[Line], side: int) -> Line:
    line: Line = []
    for place, cell in enumerate(cells):
        line += [*([(" " * GAP, "")] if place else []), *fit(cell, side)]
    return line


def _flat(words: str) -> str:
    return safe(" ".join(words.split()), LONGEST) or "-"


def _lineage(view: RunsView, width: int) -> Content:
    """The runs from which the compared ones began, and those that began from them, as trees."""
    compared = [run.name for run in view.compared]
    nodes = lineage.tree(view.runs, view.links, compared)
    body: list[Line] = []
    for node in nodes:
        place = compared.index(node.run.name) if node.run.name in compared else -1
        mark: Span = (f"{place + 1} ", STYLES[place]) if place >= 0 else ("  ", "")
        branch = "  " * min(node.depth - 1, 8) + "└ " if node.depth else ""
        name = (safe(node.run.name, 60), "head" if place >= 0 else "")
        body.append(fit([mark, (branch, "frame"), name, (f"  {best_score(node.run, view.lang)}", "dim")], width))
        words = lineage.described(node.run, view.links, view.lang)
        indent = 4 + columns([(branch, "")])
        body += [[(" " * indent, ""), (part, "dim")] for part in wrapped(words, max(8, width - indent), 2) if words]
    if not any(node.depth for node in nodes):
        body.append([(say("screen.no_lineage", view.lang), "dim")])
    return [], [fit(line, width) for line in body], []


CONTENTS: dict[str, Callable[[RunsView, int], Content]] = {
    "differences": _differences,
    "replies": _replies,
    "lineage": _lineage,
}


def _end_of(words: str, width: int) -> str:
    """A text within the given columns; of a longer one, its end."""
    while columns([(words, "")]) > width and len(words) > 2:
        words = "…" + words[2:]
    return words


def _cell(value: str, role: str, width: int) -> Line:
    """A value in its column; a path that is too long keeps its end, since the beginnings are mostly the same."""
    room = width - 1
    return [*fit([(_end_of(value, room) if "/" in value else value, role)], room), (" ", "")]
