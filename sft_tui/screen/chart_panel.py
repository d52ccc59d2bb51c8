"""The panel with a curve of a run, and its newest figures."""

import math

from engine.contract.texts import Lang, say
from sft_tui.curves import METRICS
from sft_tui.run_state import RunState
from sft_tui.screen import chart
from sft_tui.screen.charted import Charted
from sft_tui.screen.ink import Ink, Line, columns, filled, frame
from sft_tui.screen.run_contents import RunView, Selection

STYLES = ("chart", "chart2", "good", "warn")  # the colours of curves that are compared


def draw(view: RunView, width: int, height: int) -> list[Line]:
    """A curve, with its newest figures below."""
    selection, state, lang = view.selection, view.state, view.lang
    curve, metric = view.curves.of[selection.metric], METRICS[selection.metric]
    first, last = charted(view).shown(selection)
    inner = height - 3
    buckets = curve.between(first, last, chart.columns_of(width - 4))
    span = max(1, last - first + 1)
    points = [
        ((step - first) * len(buckets) // span, loss)
        for step, loss in view.curves.evaluations
        if selection.metric == "loss" and first <= step <= last
    ]
    log = selection.log_scale and not metric.is_share
    limits = (0.0, 1.0) if metric.is_share else None
    plot = chart.Plot(buckets, points, first, last, log, view.ink.ascii, metric.noisy, limits)
    body: list[Line] = chart.draw(plot, width - 4, inner)
    if not curve.last:
        body = [[(say("screen.no_steps", lang), "dim")]]
    elif limits and not any(bucket.known and bucket.high > 0 for bucket in buckets):
        body = [[(say("screen.zero_throughout", lang), "dim")]]
    body = [*filled(body, width - 4, inner), figures(state, lang, width - 4)]
    note: Line = [(say("screen.log", lang), "accent")] if log else []
    if selection.window:
        note = [(f"{first:,}–{last:,} ", "dim"), *note]
    return frame([(say(f"screen.metric_{selection.metric}", lang), "head")], body, width, height, note)


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


def zoom(view: RunView, by: int) -> Selection:
    """Twice as many steps, or half of them if `by` is negative."""
    return charted(view).zoomed(view.selection, by)


def charted(view: RunView) -> Charted:
    """The curves of the run."""
    plan = view.state.plan
    return Charted({view.run.name: view.curves}, view.run.alive, plan.steps_total if plan else 0)


def overlay(charted: Charted, selection: Selection, ink: Ink, lang: Lang, width: int, height: int) -> list[Line]:
    """The curves of several runs on one scale, in a frame: each in its colour, with its number at its end."""
    metric = METRICS[selection.metric]
    first, last = charted.shown(selection)
    across = chart.columns_of(width - 4)
    log = selection.log_scale and not metric.is_share
    plots = [
        chart.Plot(
            curves.of[selection.metric].between(first, last, across), (), first, last, log, ink.ascii, metric.noisy
        )
        for curves in charted.runs.values()
    ]
    body = chart.overlay(plots, STYLES, width - 4, height - 2)
    return frame([(say(f"screen.metric_{selection.metric}", lang), "head")], body, width, height)
