"""The screen of all runs, as a pure function: their list, the run under the cursor, or a comparison of marked ones."""

from collections.abc import Sequence

from engine.contract.texts import say
from sft_tui import lineage
from sft_tui.listing import cells, columns_of
from sft_tui.notes import Note
from sft_tui.screen import chart_panel, compare_view, fix_keys
from sft_tui.screen.charted import STYLES
from sft_tui.screen.ink import Line, Span, columns, filled, fit, frame, side_by_side
from sft_tui.screen.runs_contents import RunsView
from sft_tui.text import safe
from sft_tui.wrapping import wrap

LEAST_LIST = 8  # lines of the list
LEAST_NAME, LEAST_END = 12, 16  # columns of a run's name, and of how it ended
LEAST_CHART, MOST_CHART = 7, 16  # lines of the chart of the run under the cursor


def draw(view: RunsView, width: int, height: int) -> list[Line]:
    """The screen without its footer, in exactly the given lines and columns."""
    top = list_lines(view, width, height)
    room = height - top
    if view.compared:
        shown = compare_view.draw(view, width, room) if room else []
    else:
        shown = _about_one(view, width, room) if room else []
    return filled([*_list(view, width, top), *shown], width, height)


def _about_one(view: RunsView, width: int, height: int) -> list[Line]:
    """The run under the cursor: its details, and its curve if there is room."""
    across, down = _preview_size(view, width, height)
    if not across:
        details = _details(view, width, len(_details(view, width)))
        return [*details[: height - 1], *details[-1:]]
    chart = chart_panel.overlay(view.charted, view.selection, view.ink, view.lang, across, down)
    if across == width:
        return [*_details(view, width, height - down), *chart]
    return side_by_side(_details(view, width - across, height), chart)


def chart_size(view: RunsView, width: int, height: int) -> tuple[int, int]:
    """Columns and lines of the chart on a screen of this size; 0 of both if there is none."""
    room = height - list_lines(view, width, height)
    if view.compared:
        return compare_view.chart_size(view, width, room)
    return _preview_size(view, width, room)


def most_scrolled(view: RunsView, width: int, height: int) -> int:
    """How many lines the page of the comparison can be scrolled."""
    if not view.compared:
        return 0
    return compare_view.most_scrolled(view, width, height - list_lines(view, width, height))


def _preview_size(view: RunsView, width: int, room: int) -> tuple[int, int]:
    """The chart of the run under the cursor: next to its details on a wide screen, else below them."""
    if view.here is None or room <= 0:
        return 0, 0
    side = width * 11 // 20
    if width >= compare_view.WIDE:
        needed = len(_details(view, width - side))
        return (side, room) if room >= max(LEAST_CHART, needed) else (0, 0)
    left = room - len(_details(view, width))
    return (width, left) if left >= LEAST_CHART else (0, 0)


def list_lines(view: RunsView, width: int, height: int) -> int:
    """The number of lines of the list: a part if runs are compared, else what the run under the cursor leaves."""
    needed = len(view.listed) + 3
    if view.compared:
        return max(6, min(needed, height // 3))
    if view.here is None:
        return height
    wide = width >= compare_view.WIDE
    details = len(_details(view, width - width * 11 // 20 if wide else width))
    below = max(details, MOST_CHART) if wide else details + LEAST_CHART
    if height - below >= min(needed, LEAST_LIST):  # there is room for a chart
        return max(min(needed, LEAST_LIST), min(needed, height - below))
    below = min(len(_details(view, width)), height - LEAST_LIST)
    return height - below if below >= 4 else height


def _first(view: RunsView, height: int) -> int:
    """The run in the first line of a list of the given height."""
    return max(0, min(view.cursor - (height - 3) // 2, len(view.listed) - (height - 3)))


def run_at(view: RunsView, width: int, height: int, y: int) -> int:
    """The index in the list of the run in a line of the screen; -1 if there is none."""
    top = list_lines(view, width, height)
    place = _first(view, top) + y - 2
    return place if 2 <= y < top - 1 and place < len(view.listed) else -1


def _list(view: RunsView, width: int, height: int) -> list[Line]:
    lang, listed = view.lang, view.listed
    title: Line = [(say("screen.runs", lang), "head")]
    if not listed:
        key = "screen.no_runs_with" if view.runs else "screen.no_runs" if view.read else "here.reading"
        words = say(key, lang, **({"words": safe(view.filter, 40)} if view.runs else {}))
        return frame(title, [[(words, "dim")]], width, height, _about_filter(view))
    names = columns_of(listed, view.notes)
    rows = [[say(f"column.{name}", lang) + ("▾" if name == view.order else "") for name in names]]
    for run in listed:
        found = cells(run, lang, view.notes.get(run.name, Note()))
        rows.append([found[name] for name in names])
    widths = [max(columns([(row[place], "")]) for row in rows) for place in range(len(names))]
    widths = _fitting(widths, names.index("best"), width - 4 - len("▸1 "))
    body = [fit(_row(rows[0], widths, "dim", (" ", ""), " "), width - 4)]
    first = _first(view, height)
    compared = [run.name for run in view.compared]
    for place in range(first, min(len(listed), first + height - 3)):
        name, here = listed[place].name, place == view.cursor
        number = compared.index(name) if name in compared else -1
        mark: Span = ("*" if name in view.marked else " ", "accent")
        if number >= 0:
            mark = (str(number + 1), STYLES[number])
        body.append(fit(_row(rows[place + 1], widths, "select" if here else "", mark, "▸" if here else " "), width - 4))
    hidden: Line = []
    if names.index(view.order) >= len(widths):
        hidden = [(f"▾ {say(f'column.{view.order}', lang)} ", "dim")]
    return frame(title, body, width, height, [*hidden, *_about_filter(view)])


def _about_filter(view: RunsView) -> Line:
    """What the queue is doing, and the number of runs; with a filter its words, and how many runs have them."""
    queue: Line = [(f"{view.queue} · ", "accent")] if view.queue else []
    if not view.filter:
        return [*queue, (f"{len(view.runs)}", "dim")]
    counted = say("screen.filtered", view.lang, count=len(view.listed), runs=len(view.runs))
    return [*queue, (f"/{safe(view.filter, 20)} ", "warn"), (counted, "dim")]


def _row(row: Sequence[str], widths: Sequence[int], role: str, mark: Span, cursor: str) -> Line:
    line: Line = [(cursor, "accent"), mark, (" ", "")]
    for place, (cell, width) in enumerate(zip(row, widths, strict=False)):
        of = role if place == 0 or role == "dim" else ""
        line += [*([("  ", "")] if place else []), *fit([(cell, of)], width)]
    return line


def _fitting(widths: Sequence[int], kept: int, room: int) -> list[int]:
    """Columns as wide as their cells, as many as fit; a long name is cut for the first ones up to `kept`, or an end."""
    others = sum(2 + width for width in widths[1 : kept + 1])
    shown = [min(widths[0], max(LEAST_NAME, room - others))]
    for place, width in enumerate(widths[1:], 1):
        left = room - sum(2 + one for one in shown)
        if left < (min(width, LEAST_END) if place == len(widths) - 1 else width):
            break
        shown.append(min(width, left))
    return shown


def _details(view: RunsView, width: int, height: int = 0) -> list[Line]:
    """The run under the cursor: when it began and from what, how it ended and what to do, its note and its folders."""
    run, lang = view.here, view.lang
    if run is None:
        return []
    end = run.state.ended if not run.alive else None
    parts = [(say("column.started", lang).lower(), safe(run.state.began_at[:16].replace("T", " ")) or "-", "")]
    parts += [("", words, "") for words in [lineage.described(run, view.links, lang)] if words]
    if end is not None:
        parts.append(
            (say("column.ended", lang).lower(), safe(end.message.what(lang), 600), "bad" if end.exit_code else "")
        )
        parts += [("", words, "dim") for words in [safe(fix_keys.with_keys(end.message.fix(lang)), 600)] if words]
    note = view.notes.get(run.name, Note()).line()
    parts += [(say("screen.noted", lang), safe(note, 600), "accent")] if note else []
    parts += [(say("screen.folder", lang), safe(str(run.run_dir.path.absolute()), 400), "")]
    parts += [(say("screen.model_folder", lang), safe(str((run.output or run.record.output).path), 400), "")]
    indent = max(columns([(label, "")]) for label, _, _ in parts) + 2
    body: list[Line] = []
    for label, words, role in parts:
        for place, line in enumerate(wrap(words, max(8, width - 4 - indent))):
            body.append([*fit([("" if place else label, "dim")], indent), (line, role)])
    return frame([(safe(run.name, 60), "head")], body, width, height or len(body) + 2)
