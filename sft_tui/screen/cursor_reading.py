"""The values under the cursor of a chart, as one line."""

import math

from engine.contract.texts import Lang, say
from sft_tui.curves import METRICS, Bucket, Curves
from sft_tui.screen.charted import PLAIN, SHOWN, STYLES, Charted, role_of, sign_of
from sft_tui.screen.ink import Line, columns, fit
from sft_tui.screen.run_contents import Selection
from sft_tui.screen.ticks import short

WIDTH = 7  # columns of a number


def steps(shown: Charted, selection: Selection, across: int) -> tuple[int, int]:
    """The first and the last step that the values under the cursor are of."""
    first, last = shown.under(selection, across)
    longest = max(shown.runs.values(), key=lambda curves: curves.of["loss"].last, default=Curves())
    return longest.of["loss"].at(first, last)[1:]


def line(shown: Charted, selection: Selection, lang: Lang, across: int, width: int) -> Line:
    """The steps, and what is known of them: of one run all its metrics, of several that of the chart."""
    first, last = steps(shown, selection, across)
    under = shown.under(selection, across)
    found: Line = [
        (f"{say('screen.step', lang)} ", "dim"),
        (f"{first:,}" if first >= last else f"{first:,}–{last:,}", "head"),
    ]
    parts = _of_several(shown, selection, under) if len(shown.runs) > 1 else _of_one(shown, selection, under, lang)
    for part in parts:
        if columns(found) + 2 + columns(part) > width:
            break
        found += [("  ", ""), *part]
    return fit(found, width)


def _of_several(shown: Charted, selection: Selection, under: tuple[int, int]) -> list[Line]:
    """The value of each run, by its number."""
    parts: list[Line] = []
    for place, curves in enumerate(shown.runs.values()):
        role, metric = STYLES[place % len(STYLES)], selection.metric
        if metric in METRICS:
            text = ranged(metric, curves.of[metric].at(*under)[0])
        elif metric in curves.readings:
            text = ranged(metric, next(iter(curves.readings[metric].values())).at(*under)[0])
        else:
            text = newest(curves, metric, under[1])
        parts.append([(f"{place + 1} ", role), (text, "")])
    return parts


def _of_one(shown: Charted, selection: Selection, under: tuple[int, int], lang: Lang) -> list[Line]:
    """The metric of the chart, if it is another than the usual ones, and those."""
    parts: list[Line] = []
    for curves in shown.runs.values():
        metric = selection.metric
        for number, (key, curve) in enumerate(curves.readings.get(metric, {}).items()):
            parts.append([(f"{sign_of(key)} ", role_of(number)), (ranged(metric, curve.at(*under)[0]), "")])
        if metric in ("padding", *(name for one in curves.evaluations for name in one.values)) and metric != "loss":
            bucket = curves.of[metric].at(*under)[0] if metric in curves.of else None
            text = ranged(metric, bucket) if bucket is not None else newest(curves, metric, under[1])
            parts.append(_named(say(f"screen.metric_{metric.replace('-', '_')}", lang), text))
        of = {name: curves.of[name].at(*under)[0] for name in ("loss", "lr", "grad_norm", "rate")}
        parts.append(_named(say("screen.train", lang), ranged("loss", of["loss"])))
        parts.append(_named(say("screen.eval", lang), newest(curves, "loss", under[1])))
        parts.append(_named("lr", number_of("lr", of["lr"].mean)))
        parts.append(_named(say("screen.grad", lang), number_of("grad_norm", of["grad_norm"].mean)))
        parts.append([(number_of("rate", of["rate"].mean), ""), (f" {say('screen.rate', lang)}", "dim")])
    return parts


def _named(name: str, text: str) -> Line:
    return [(f"{name} ", "dim"), (text, "")]


def newest(curves: Curves, measure: str, step: int) -> str:
    """A measure of the newest evaluation up to a step."""
    before = [one for one in curves.evaluations if one.step <= step and measure in one.values]
    return number_of(measure, before[-1].values[measure]) if before else "-"


def ranged(metric: str, bucket: Bucket) -> str:
    """The mean of a bucket, and its range if it has one: `2.31 (1.9–4.0)`."""
    if not bucket.known:
        return "nan" if bucket.bad else "-"
    mean, low, high = (number_of(metric, value) for value in (bucket.mean, bucket.low, bucket.high))
    return mean if low == high else f"{mean} ({low.split()[0]}–{high.split()[0]})"


def number_of(metric: str, value: float) -> str:
    """A value of a metric with its usual digits."""
    how = SHOWN.get(metric, PLAIN)
    value /= how.unit
    if not math.isfinite(value):
        return "-" if metric == "rate" else f"{value}"
    if metric == "lr":
        return short(value, WIDTH)
    if metric in ("rate", "gpu_power", "gpu_temperature") or how.percent:
        return f"{value:,.0f}" + (" %" if how.percent else "")
    if metric in ("memory", "gpu_memory"):
        return f"{value:.2f} GB"
    places = 4 if abs(value) < 10 and metric in ("loss", "perplexity") else 2
    return f"{value:.{places}f}" if 1e-3 <= abs(value) < 1e5 or not value else short(value, WIDTH)
