"""The screen of all runs, as a pure function: their list, and a comparison of those that are marked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from engine.contract.messages import Lang
from sft_tui.curves import Curves
from sft_tui.listing import COLUMNS, cells
from sft_tui.locale import say
from sft_tui.runs import Run
from sft_tui.screen import chart
from sft_tui.screen.ink import Ink, Line, columns, filled, fit, frame
from sft_tui.text import number, safe

STYLES = ("chart", "chart2", "good", "warn")
INDIFFERENT = {"output_dir", "token_store", "logging_steps", "sample_rows"}


@dataclass(frozen=True)
class View:
    """All that the screen shows."""

    runs: Sequence[Run]
    cursor: int = 0
    marked: frozenset[str] = frozenset()
    curves: Mapping[str, Curves] = field(default_factory=dict)  # of the marked ones
    ink: Ink = field(default_factory=Ink)
    lang: Lang = "en"

    @property
    def compared(self) -> list[Run]:
        """The marked runs, as many as there are colours."""
        return [run for run in self.runs if run.name in self.marked][: len(STYLES)]


def draw(view: View, width: int, height: int) -> list[Line]:
    """The screen without its footer, in exactly so many lines and columns."""
    compared = view.compared if len(view.marked) > 1 else []
    top = height if not compared else max(6, min(len(view.runs) + 4, height // 3))
    shown = _list(view, width, top)
    if compared:
        left = width * 3 // 5
        room = height - top
        shown += [
            [*one, *other]
            for one, other in zip(
                _overlaid(view, compared, left, room), _differing(view, compared, width - left, room), strict=True
            )
        ]
    return filled(shown, width, height)


def _list(view: View, width: int, height: int) -> list[Line]:
    lang = view.lang
    if not view.runs:
        body: list[Line] = [[(say("ui_no_runs", lang), "dim")]]
        return frame([(say("ui_runs", lang), "head")], body, width, height)
    rows = [[say(f"column_{column}", lang) for column in COLUMNS], *(cells(run, lang) for run in view.runs)]
    widths = [max(columns([(row[place], "")]) for row in rows) for place in range(len(COLUMNS))]
    body = [_row(rows[0], widths, "dim", " ", " ")]
    room = height - 3
    first = max(0, min(view.cursor - room // 2, len(view.runs) - room))
    compared = [run.name for run in view.compared]
    for place in range(first, min(len(view.runs), first + room)):
        run = view.runs[place]
        here = place == view.cursor
        mark = "●" if run.name in view.marked else " "
        role = STYLES[compared.index(run.name)] if run.name in compared else ""
        body.append(
            fit(_row(rows[place + 1], widths, "select" if here else "", mark, "▸" if here else " ", role), width - 4)
        )
    return frame([(say("ui_runs", lang), "head")], body, width, height, [(f"{len(view.runs)}", "dim")])


def _row(
    row: Sequence[str], widths: Sequence[int], role: str, mark: str, cursor: str, mark_role: str = "accent"
) -> Line:
    line: Line = [(cursor, "accent"), (mark, mark_role or "accent"), (" ", "")]
    for place, (cell, width) in enumerate(zip(row, widths, strict=True)):
        line += [*fit([(cell, role if place == 0 or role == "dim" else "")], width), ("  ", "")]
    return line


def _overlaid(view: View, compared: Sequence[Run], width: int, height: int) -> list[Line]:
    """Their losses in one chart: each drawn on the same scale, one over the other."""
    last = max((view.curves[run.name].of["loss"].last for run in compared if run.name in view.curves), default=1)
    across = chart.columns_of(width - 4)
    plots = []
    for run in compared:
        curves = view.curves.get(run.name)
        if curves is not None:
            plots.append(
                chart.Plot(
                    curves.of["loss"].between(1, max(1, last), across), (), 1, max(1, last), False, view.ink.ascii
                )
            )
    body = chart.overlay(plots, STYLES, width - 4, height - 2)
    return frame([(say("ui_metric_loss", view.lang), "head")], body, width, height)


def _differing(view: View, compared: Sequence[Run], width: int, height: int) -> list[Line]:
    """Their settings side by side: those that differ, marked, and the best BLEU of each."""
    column = max(8, (width - 4 - 20) // len(compared))
    body: list[Line] = [
        [
            *fit([("", "")], 20),
            *(span for i, run in enumerate(compared) for span in fit([(safe(run.name, 40), STYLES[i])], column)),
        ]
    ]
    scores = [f"{run.state.best.bleu:.2f}" if run.state.best else "-" for run in compared]
    body.append([*fit([("BLEU", "head")], 20), *(span for one in scores for span in fit([(one, "head")], column))])
    configs = [run.record.config for run in compared]
    names = [name for config in configs for name in config]
    for name in dict.fromkeys(names):
        values = [config.get(name, "-") for config in configs]
        if name in INDIFFERENT or all(value == values[0] for value in values):
            continue
        shown = [number(value) if isinstance(value, float) else safe(str(value), 60) for value in values]
        body.append(
            [*fit([("! ", "warn"), (safe(name, 40), "")], 20), *(s for one in shown for s in fit([(one, "")], column))]
        )
    if len(body) == 2:
        body.append([(say("ui_same_settings", view.lang), "dim")])
    return frame([(say("ui_differences", view.lang), "head")], body, width, height)
