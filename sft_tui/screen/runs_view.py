"""The screen of all runs, as a pure function: their list, and a comparison of marked ones."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.contract.config import FIELDS, setting_of
from engine.contract.scores import MEASURES, all_measures, shown
from engine.contract.texts import Lang, named, say
from sft_tui.curves import Curves
from sft_tui.listing import COLUMNS, best_score, cells, eval_loss
from sft_tui.runs import Run
from sft_tui.screen import chart_panel
from sft_tui.screen.charted import STYLES, Charted
from sft_tui.screen.ink import Ink, Line, Span, columns, filled, fit, frame, side_by_side
from sft_tui.screen.run_contents import Selection
from sft_tui.text import number, safe
from sft_tui.wrapping import wrap

WIDE = 100  # columns; from this width on, the comparison is side by side
LEAST_LIST = 8  # lines of the list
LEAST_NAME, LEAST_END = 12, 16  # columns of a run's name, and of how it ended
NAME = 30  # columns of a setting's name
NOT_COMPARED = {"output_dir", "token_store", "logging_steps", "sample_rows"}


@dataclass(frozen=True)
class RunsView:
    """The state that the screen shows."""

    runs: Sequence[Run]
    cursor: int = 0
    marked: frozenset[str] = frozenset()
    curves: Mapping[str, Curves] = field(default_factory=dict)  # of the marked ones
    queue: str = ""  # what the queue is doing, in a few words
    ink: Ink = field(default_factory=Ink)
    lang: Lang = "en"

    @property
    def compared(self) -> list[Run]:
        """The marked runs, as many as there are colours."""
        return [run for run in self.runs if run.name in self.marked][: len(STYLES)]


def draw(view: RunsView, width: int, height: int) -> list[Line]:
    """The screen without its footer, in exactly the given lines and columns."""
    compared = view.compared if len(view.marked) > 1 else []
    top = _list_lines(view, width, height)
    room = height - top
    if not compared:
        details = _details(view, width) if room else []
        shown = [*details[: room - 1], *details[-1:]]
    elif width >= WIDE:
        left = width * 9 // 20
        shown = side_by_side(_overlaid(view, compared, left, room), _differing(view, compared, width - left, room))
    else:
        upper = room * 2 // 5
        shown = [*_overlaid(view, compared, width, upper), *_differing(view, compared, width, room - upper)]
    return filled([*_list(view, width, top), *shown], width, height)


def _list_lines(view: RunsView, width: int, height: int) -> int:
    """The number of lines of the list: a part if runs are compared, else all that the details of one run leave."""
    if len(view.marked) > 1 and view.compared:
        return max(6, min(len(view.runs) + 3, height // 3))
    below = min(len(_details(view, width)), height - LEAST_LIST) if view.runs else 0
    return height - below if below >= 4 else height


def _first(view: RunsView, height: int) -> int:
    """The run in the first line of a list of the given height."""
    return max(0, min(view.cursor - (height - 3) // 2, len(view.runs) - (height - 3)))


def run_at(view: RunsView, width: int, height: int, y: int) -> int:
    """The index of the run in a line of the screen; -1 if there is none."""
    top = _list_lines(view, width, height)
    place = _first(view, top) + y - 2
    return place if 2 <= y < top - 1 and place < len(view.runs) else -1


def _list(view: RunsView, width: int, height: int) -> list[Line]:
    lang = view.lang
    if not view.runs:
        body: list[Line] = [[(say("screen.no_runs", lang), "dim")]]
        return frame(
            [(say("screen.runs", lang), "head")], body, width, height, [(view.queue, "accent")] * bool(view.queue)
        )
    rows = [[say(f"column.{column}", lang) for column in COLUMNS], *(cells(run, lang) for run in view.runs)]
    widths = [max(columns([(row[place], "")]) for row in rows) for place in range(len(COLUMNS))]
    widths = _fitting(widths, width - 4 - len("▸1 "))
    body = [fit(_row(rows[0], widths, "dim", (" ", ""), " "), width - 4)]
    room = height - 3
    first = _first(view, height)
    compared = [run.name for run in view.compared]
    for place in range(first, min(len(view.runs), first + room)):
        name, here = view.runs[place].name, place == view.cursor
        number = compared.index(name) if name in compared else -1
        mark: Span = (str(number + 1), STYLES[number]) if number >= 0 else (" ", "")
        body.append(fit(_row(rows[place + 1], widths, "select" if here else "", mark, "▸" if here else " "), width - 4))
    note: Line = [(f"{view.queue} · " if view.queue else "", "accent"), (f"{len(view.runs)}", "dim")]
    return frame([(say("screen.runs", lang), "head")], body, width, height, note)


def _row(row: Sequence[str], widths: Sequence[int], role: str, mark: Span, cursor: str) -> Line:
    line: Line = [(cursor, "accent"), mark, (" ", "")]
    for place, (cell, width) in enumerate(zip(row, widths, strict=False)):
        of = role if place == 0 or role == "dim" else ""
        line += [*fit([(cell, of)], width), ("  ", "")]
    return line


def _fitting(widths: Sequence[int], room: int) -> list[int]:
    """Columns as wide as their cells, as many as fit; a long name or end is cut."""
    kept = widths[1 : COLUMNS.index("best") + 1]
    shown = [min(widths[0], max(LEAST_NAME, room - sum(2 + width for width in kept)))]
    for place, width in enumerate(widths[1:], 1):
        left = room - sum(2 + one for one in shown)
        if left < (min(width, LEAST_END) if place == len(widths) - 1 else width):
            break
        shown.append(min(width, left))
    return shown


def _details(view: RunsView, width: int) -> list[Line]:
    """The run under the cursor: when it began, how it ended and what to do, and its folder."""
    run, lang = view.runs[view.cursor], view.lang
    end = run.state.ended if not run.alive else None
    parts = [(say("column.started", lang), safe(run.state.began_at[:16].replace("T", " ")) or "-", "")]
    if end is not None:
        parts.append((say("column.ended", lang), safe(end.message.what(lang), 600), "bad" if end.exit_code else ""))
        parts += [("", words, "dim") for words in [safe(end.message.fix(lang), 600)] if words]
    parts += [(say("screen.folder", lang), safe(str(run.run_dir.path.absolute()), 400), "")]
    parts += [(say("screen.model_folder", lang), safe(str((run.output or run.record.output).path), 400), "")]
    indent = max(columns([(label, "")]) for label, _, _ in parts) + 2
    body: list[Line] = []
    for label, words, role in parts:
        for place, line in enumerate(wrap(words, max(8, width - 4 - indent))):
            body.append([*fit([("" if place else label, "dim")], indent), (line, role)])
    return frame([(safe(run.name, 60), "head")], body, width, len(body) + 2)


def _overlaid(view: RunsView, compared: Sequence[Run], width: int, height: int) -> list[Line]:
    """The losses of the compared runs in one chart, overlaid on the same scale."""
    shown = Charted({run.name: view.curves[run.name] for run in compared if run.name in view.curves})
    return chart_panel.overlay(shown, Selection(), view.ink, view.lang, width, height)


def _differing(view: RunsView, compared: Sequence[Run], width: int, height: int) -> list[Line]:
    """Scores and settings side by side: those that differ first and marked, then equal ones."""
    lang, inner = view.lang, width - 4
    names = max(20, min(NAME, inner - 12 * len(compared)))
    column = max(6, (inner - names) // len(compared))

    def line(name: Span, values: Sequence[str], roles: Sequence[str], mark: str = "  ") -> Line:
        cells = [span for value, role in zip(values, roles, strict=True) for span in _cell(value, role, column)]
        return [*fit([(mark, "warn"), name], names), *cells]

    alike = ["dim"] * len(compared)
    # A run's number identifies it; the beginning of its name is mostly the preset's.
    titles = [f"{place + 1} {_end_of(safe(run.name, 60), column - 3)}" for place, run in enumerate(compared)]
    body = [line(("", ""), titles, STYLES[: len(compared)])]
    body += [line((name, "head"), values, ["head"] * len(compared)) for name, values in _decisive(compared, lang)]
    same, before = list[Line](), len(body)
    for name, values in _settings(compared).items():
        texts = [number(value) for value in values]
        if len({_resolved(name, value) for value in values}) == 1:
            same.append(line((safe(name, 60), "dim"), texts, alike))
        elif name not in NOT_COMPARED:
            body.append(line((safe(name, 60), ""), texts, [""] * len(compared), "! "))
    count = len(body) - before
    if not count:
        body.append([(say("screen.same_settings", lang), "dim")])
    scores = [line((name, ""), values, alike) for name, values in _scores(compared, lang)]
    note: Line = [(f"! {count}", "warn")] if count else []
    return frame([(say("screen.differences", lang), "head")], [*body, *scores, *same], width, height, note)


def _decisive(compared: Sequence[Run], lang: Lang) -> list[tuple[str, list[str]]]:
    """What decided which model is the best, and the loss of the newest evaluation."""
    best = (say("app.compared_best", lang), [best_score(run, lang) for run in compared])
    return [best, (say("app.compared_eval", lang), [eval_loss(run) for run in compared])]


def _scores(compared: Sequence[Run], lang: Lang) -> list[tuple[str, list[str]]]:
    """Every measure of the best evaluations that one of them has."""
    scores = [all_measures(run.state.best) if run.state.best else {} for run in compared]
    return [
        (
            say("app.compared_score", lang, measure=named("measure", name, lang)),
            [shown(name, one[name].value) if name in one else "-" for one in scores],
        )
        for name in MEASURES
        if any(name in one for one in scores)
    ]


def _settings(compared: Sequence[Run]) -> dict[str, list[Any]]:
    configs = [run.record.config for run in compared]
    names = dict.fromkeys(name for config in configs for name in config)
    return {name: [config.get(name, "-") for config in configs] for name in names}


def _resolved(name: str, value: Any) -> str:
    """A value for comparison: a path as the file it resolves to, however it is written."""
    is_path = name in FIELDS and setting_of(name).path and isinstance(value, str) and value
    return os.path.realpath(os.path.expanduser(value)) if is_path else repr(value)


def _end_of(words: str, width: int) -> str:
    """A text within the given columns; of a longer one, its end."""
    while columns([(words, "")]) > width and len(words) > 2:
        words = "…" + words[2:]
    return words


def _cell(value: str, role: str, width: int) -> Line:
    """A value in its column; a path that is too long keeps its end, since the beginnings are mostly the same."""
    room = width - 1
    return [*fit([(_end_of(value, room) if "/" in value else value, role)], room), (" ", "")]
