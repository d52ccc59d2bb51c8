"""The panel with a curve of a run, or of several that are compared: a legend in its frame, figures below."""

import math

from engine.contract.texts import Lang, say
from sft_tui import event_text
from sft_tui.curves import METRICS
from sft_tui.run_state import RunState
from sft_tui.screen import chart, cursor_reading
from sft_tui.screen.chart import Plot
from sft_tui.screen.charted import MACHINE_SIGN, Charted, role_of
from sft_tui.screen.ink import Ink, Line, columns, filled, frame, side_by_side
from sft_tui.screen.run_contents import RunView, Selection
from sft_tui.wrapping import wrap

RIGHT_WIDTH = 156  # columns of a panel from which on small charts stand on its right
BELOW_WIDTH, BELOW_HEIGHT = 116, 30  # of a panel that has them below, next to other panels
SMALL_WIDTH, SMALL_HEIGHT = 40, 10  # of a small chart, at least
MOST_SMALL = 4


def draw(view: RunView, width: int, height: int) -> list[Line]:
    """A curve, with its newest figures or those under the cursor below; other curves next to it if there is room.

    Of a test, which has no steps, what it measures.
    """
    if view.run.record.job != "train":
        return _of_test(view, width, height)
    shown, selection = charted(view), view.selection
    below = figures(view.state, view.lang, main_size(view, width, height)[0] - 4)
    return _arranged(shown, selection, view.ink, view.lang, (width, height), below, all_panels=selection.page == "all")


def _of_test(view: RunView, width: int, height: int) -> list[Line]:
    """How far a test is, or what it measured."""
    state, lang, room = view.state, view.lang, max(8, width - 4)
    body: list[Line] = [[(part, "dim")] for part in wrap(say("screen.test_no_curve", lang), room)]
    if state.evaluation is not None:
        body = [[(one.text, "")] for one in event_text.lines(state.evaluation, state, lang)]
    elif view.run.alive:
        body.append([(event_text.phase_line(state.phase, lang), "accent")])
    return frame([(say("screen.test_title", lang), "head")], body, width, height)


def charted(view: RunView) -> Charted:
    """The curves of the run."""
    plan = view.state.plan
    return Charted({view.run.name: view.curves}, view.run.alive, plan.steps_total if plan else 0)


def zoom(view: RunView, by: int) -> Selection:
    """Twice as many steps, or half of them if `by` is negative."""
    return charted(view).zoomed(view.selection, by)


def main_size(view: RunView, width: int, height: int) -> tuple[int, int]:
    """Columns and lines of the large chart with its frame, in a panel of this size."""
    small = _small_sizes(charted(view), width, height, all_panels=view.selection.page == "all")
    return _main_size(small, width, height)


def across(width: int) -> int:
    """The columns of a chart in a frame of `width` columns, by which its cursor moves."""
    return chart.columns_of(width - 4) // 2


def overlay(shown: Charted, selection: Selection, ink: Ink, lang: Lang, width: int, height: int) -> list[Line]:
    """The curves of several runs on one scale, in a frame: each in its colour, with its number at its end."""
    return _large(shown, selection, ink, lang, (width, height), [])


def _small_sizes(shown: Charted, width: int, height: int, *, all_panels: bool) -> list[tuple[int, int]]:
    """Columns and lines of the small charts: in a column on the right, or in a row below; none if there is no room."""
    most = min(MOST_SMALL, len(shown.charts) - 1)
    if width >= RIGHT_WIDTH and most > 0 and height >= SMALL_HEIGHT:
        count = max(1, min(most, height // SMALL_HEIGHT))
        return [(width // 3, height * (n + 1) // count - height * n // count) for n in range(count)]
    if all_panels and width >= BELOW_WIDTH and height >= BELOW_HEIGHT and most > 0:
        count = max(1, min(most, width // SMALL_WIDTH))
        return [(width * (n + 1) // count - width * n // count, SMALL_HEIGHT) for n in range(count)]
    return []


def _main_size(small: list[tuple[int, int]], width: int, height: int) -> tuple[int, int]:
    if small and width >= RIGHT_WIDTH:
        return width - small[0][0], height
    return (width, height - small[0][1]) if small else (width, height)


def _arranged(
    shown: Charted, selection: Selection, ink: Ink, lang: Lang, size: tuple[int, int], below: Line, *, all_panels: bool
) -> list[Line]:
    """A large chart, and small ones of the metrics that follow."""
    small = _small_sizes(shown, *size, all_panels=all_panels)
    large = _large(shown, selection, ink, lang, _main_size(small, *size), below)
    if not small:
        return large
    names = shown.charts
    place = names.index(selection.metric) if selection.metric in names else 0
    following = [names[(place + number + 1) % len(names)] for number in range(len(small))]
    drawn = [_small(shown, selection, name, ink, lang, of) for name, of in zip(following, small, strict=True)]
    if size[0] >= RIGHT_WIDTH:
        return side_by_side(large, [line for one in drawn for line in one])
    return [*large, *side_by_side(*drawn)]


def _large(
    shown: Charted, selection: Selection, ink: Ink, lang: Lang, size: tuple[int, int], below: Line
) -> list[Line]:
    width, height = size
    inner = height - 2
    if selection.cursor:
        below = cursor_reading.line(shown, selection, lang, across(width), width - 4)
    plot = shown.plot(selection.metric, selection, chart.columns_of(width - 4), ascii_only=ink.ascii)
    rows = inner - (1 if below else 0)
    body: list[Line] = chart.draw(plot, width - 4, rows)
    nothing = _nothing(shown, selection.metric, plot, lang)
    body = filled([[(nothing, "dim")]] if nothing else body, width - 4, rows)
    title: Line = [(title_of(selection.metric, lang), "head")]
    note = _note(shown, selection, plot, lang, chart.shows_cuts(body), width - 8 - columns(title))
    return frame(title, [*body, *([below] if below else [])], width, height, note)


def _small(
    shown: Charted, selection: Selection, metric: str, ink: Ink, lang: Lang, size: tuple[int, int]
) -> list[Line]:
    """A metric without a legend, of the same steps."""
    width, height = size
    plot = shown.plot(metric, selection, chart.columns_of(width - 4), ascii_only=ink.ascii)
    nothing = _nothing(shown, metric, plot, lang)
    body: list[Line] = [[(nothing, "dim")]] if nothing else chart.draw(plot, width - 4, height - 2)
    return frame([(title_of(metric, lang), "head")], body, width, height)


def _nothing(shown: Charted, metric: str, plot: Plot, lang: Lang) -> str:
    """Why there is nothing to draw; empty if there is something."""
    if not shown.steps:
        return say("screen.no_steps" if shown.alive else "screen.never_a_step", lang)
    known = [bucket for series in plot.series for bucket in series.buckets if bucket.known]
    if metric == "padding" and not any(bucket.high > 0 for bucket in known):
        return say("screen.zero_throughout", lang)
    if known or any(series.points for series in plot.series) or metric in METRICS:
        return ""
    return say("screen.no_values", lang)


def title_of(metric: str, lang: Lang) -> str:
    """The name of a metric, with its unit."""
    return say(f"screen.metric_{metric.replace('-', '_')}", lang)


def _note(shown: Charted, selection: Selection, plot: Plot, lang: Lang, cuts: bool, room: int) -> Line:
    """What is shown and what its signs mean, as far as there is room: the most important first."""
    log: list[Line] = [[(say("screen.log", lang), "accent")]] if plot.log else []
    window: list[Line] = [[(f"{plot.first:,}–{plot.last:,}", "dim")]] if selection.window else []
    cut: list[Line] = []
    if cuts:
        cut = [[(f"{chart.PEAK} ", "warn"), (say("screen.legend_cut", lang), "dim")]]
    signs = _signs(shown, selection, plot, lang)
    for kept in ([*signs, *cut], [*signs[1:], *cut], [*signs[2:], *cut], cut, []):
        note: Line = []
        for part in [*window, *kept, *log]:
            note += [*([("  ", "")] if note else []), *part]
        if columns(note) <= room:
            return note
    return []


def _signs(shown: Charted, selection: Selection, plot: Plot, lang: Lang) -> list[Line]:
    """The legend: of the dots, the line and the points, or of each of several curves."""
    names = [series.name for series in plot.series if series.name]
    if names and len(shown.runs) == 1:
        texts = [
            say("screen.legend_machine", lang) if one == MACHINE_SIGN else _numbered(selection, one, lang)
            for one in names
        ]
        return [
            [(f"{sign} ", role_of(place)), (text, "dim")]
            for place, (sign, text) in enumerate(zip(names, texts, strict=True))
        ]
    found: list[Line] = []
    band, line = (".", "*") if plot.ascii else ("▒", "─")
    of_steps = METRICS.get(selection.metric)
    if of_steps is not None and of_steps.noisy:
        if not names:
            found.append([(f"{band} ", "dim"), (say("screen.legend_range", lang), "dim")])
        mean = say("screen.legend_smoothed", lang, steps=plot.over) if plot.over else say("screen.legend_mean", lang)
        found.append([(f"{line} ", "chart"), (mean, "dim")])
    if any(series.points for series in plot.series):
        found.append(
            [
                (f"{chart.POINT} ", "chart2" if selection.metric == "loss" else "chart"),
                (say("screen.eval", lang), "dim"),
            ]
        )
    return found


def _numbered(selection: Selection, number: str, lang: Lang) -> str:
    return f"{say('screen.rank', lang)} {number}" if selection.metric == "memory" else f"GPU {number}"


def figures(state: RunState, lang: Lang, width: int) -> Line:
    """The newest loss, learning rate, gradient norm, speed and share of padding, in fixed columns."""
    step = state.step
    if step is None:
        return []
    padding = 1 - step.tokens / step.padded_tokens if step.padded_tokens > 0 else 0.0
    rate = state.tokens_per_second
    parts = [
        (say("screen.train", lang), _short(step.loss, 4), 6),
        (say("screen.eval", lang), _short(state.evaluation.loss, 4) if state.evaluation else "-", 6),
        ("lr", f"{step.lr:.1e}", 7),
        (say("screen.grad", lang), _short(step.grad_norm, 2), 4),
        (say("screen.rate", lang), f"{rate:,.0f}" if rate < 1e4 else f"{rate / 1e3:,.{1 if rate < 1e5 else 0}f}k", 5),
        (say("screen.padding", lang), f"{100 * padding:.0f} %", 4),
    ]
    line: Line = []
    for name, value, room in parts:
        part: Line = [(f"{name} ", "dim"), (f"{value:<{room}} ", "")]
        if columns(line) + columns(part) - 1 <= width:
            line += part
    return [*line[:-1], (line[-1][0].rstrip(), "")] if line else []


def _short(value: float, places: int) -> str:
    """A number with this many decimals, fewer the larger it is, so that it stays within its columns."""
    if not math.isfinite(value) or abs(value) >= 10 ** (places + 1):
        return f"{value:.0e}".replace("e+0", "e").replace("e+", "e")
    choices = (f"{value:.{count}f}" for count in range(places, 0, -1))
    return next((text for text in choices if len(text) <= places + len("0.")), f"{value:.0f}")
