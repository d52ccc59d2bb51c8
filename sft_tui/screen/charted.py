"""Which curves a chart shows, which of their steps, and where its cursor is."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sft_tui.curves import CHARTS, METRICS, Curves
from sft_tui.screen.chart import Plot, Series
from sft_tui.screen.run_contents import Selection
from sft_tui.screen.spikes import spikes

FIRST_EDGE = 64
ZOOM = 2.0
STYLES = ("chart", "chart2", "good", "warn", "bad", "head")  # the colours of curves that are compared
MACHINE_SIGN = "m"


@dataclass(frozen=True)
class Shown:
    """How a metric is drawn."""

    unit: float = 1.0  # what a label of 1 means
    limits: tuple[float, float] | None = None  # None: those of the values
    percent: bool = False


SHOWN = {
    "padding": Shown(0.01, (0.0, 1.0), percent=True),
    "gpu_load": Shown(1.0, (0.0, 100.0), percent=True),
    "memory": Shown(1e9),
    "gpu_memory": Shown(1e9),
}
PLAIN = Shown()


@dataclass(frozen=True)
class Charted:
    """The curves in a chart: of one run, or of several that are compared, in their order, by the runs' names."""

    runs: Mapping[str, Curves]
    alive: bool = False  # a single run still writes, so that its axis reaches further than its newest step
    steps_total: int = 0  # of a run that is alive; 0: unknown

    @property
    def steps(self) -> int:
        """The newest step of all runs."""
        return max((curves.of["loss"].last for curves in self.runs.values()), default=0)

    @property
    def grain(self) -> int:
        """Steps per bucket of the finest curve."""
        return min((curves.of["loss"].width for curves in self.runs.values()), default=1)

    @property
    def charts(self) -> list[str]:
        """The names of the metrics that any of the runs has."""
        found = {name for curves in self.runs.values() for name in curves.charts}
        return [name for name in CHARTS if name in found] or ["loss"]

    @property
    def start(self) -> int:
        """The first step of the axis: 0 if the model was evaluated before it learned."""
        before = any(one.step == 0 for curves in self.runs.values() for one in curves.evaluations[:1])
        return 0 if before else 1

    def shown(self, selection: Selection) -> tuple[int, int]:
        """The first and the last step of the axis."""
        total = max(self.steps, 1)
        if not selection.window:
            return self.start, edge(total, self.steps_total) if self.alive else total
        last = max(1, total - selection.back)
        return max(self.start, last - selection.window + 1), last

    def zoomed(self, selection: Selection, by: int) -> Selection:
        """A selection of twice as many steps, or of half of them if `by` is negative; those around the cursor."""
        found = selection.zoomed(ZOOM if by > 0 else 1 / ZOOM, max(1, self.steps), self.grain)
        return self._around(found) if found.window and found.cursor else found

    def _around(self, selection: Selection) -> Selection:
        """The steps around the cursor."""
        back = self.steps - selection.cursor - selection.window // 2
        return replace(selection, back=min(max(0, back), max(0, self.steps - selection.window)))

    def moved(self, selection: Selection, by: int, across: int) -> Selection:
        """The cursor moved by columns of a chart of `across` columns, and the steps around it if it leaves them."""
        first, last = self.shown(selection)
        span = last - first + 1
        if span <= across:
            step = selection.cursor + by
        else:
            place = column_of(selection.cursor, first, last, across) + by
            step = first - (-place * span // across)
        return self.at(selection, step)

    def at(self, selection: Selection, step: int) -> Selection:
        """The cursor at a step, or at the nearest that there is."""
        found = replace(selection, cursor=max(1, min(self.steps, step)))
        first, last = self.shown(found)
        return found if first <= found.cursor <= last or not found.window else self._around(found)

    def spike(self, metric: str, step: int, by: int) -> int:
        """The step at which the next spike begins, or the previous one if `by` is negative; 0 if there is none."""
        name = metric if metric in METRICS and METRICS[metric].noisy else "loss"
        of = [curves.of[name] for curves in self.runs.values()]
        starts = sorted({place * curve.width + 1 for curve in of for place in spikes(curve.buckets)})
        later, earlier = [one for one in starts if one > step], [one for one in starts if one < step]
        return (later[0] if later else 0) if by > 0 else (earlier[-1] if earlier else 0)

    def under(self, selection: Selection, across: int) -> tuple[int, int]:
        """The steps in the column under the cursor, of a chart of `across` columns."""
        first, last = self.shown(selection)
        span = last - first + 1
        if span <= across:
            return selection.cursor, selection.cursor
        place = column_of(selection.cursor, first, last, across)
        return first - (-place * span // across), first - (-(place + 1) * span // across) - 1

    def plot(self, metric: str, selection: Selection, dots: int, *, ascii_only: bool = False) -> Plot:
        """A metric as a chart of this many columns of dots."""
        first, last = self.shown(selection)
        how, measured = SHOWN.get(metric, PLAIN), METRICS.get(metric)
        over = selection.smoothing if measured is not None and measured.noisy else 0
        robust = measured is not None and measured.noisy
        log = selection.log_scale and metric == selection.metric and how.limits is None
        several = len(self.runs) > 1
        series = [
            one
            for place, curves in enumerate(self.runs.values())
            for one in _series(curves, metric, (first, last, dots), over, place if several else None)
        ]
        cursor = column_of(selection.cursor, first, last, dots // 2) if selection.cursor else -1
        return Plot(
            series, first, last, log, ascii_only, over, how.limits, robust and not selection.uncut,
            not several or metric != "loss", how.unit, how.percent, cursor,
        )  # fmt: skip


def column_of(step: int, first: int, last: int, across: int) -> int:
    """The column of a step, of `across` columns for the steps `first` … `last`."""
    return (step - first) * across // max(1, last - first + 1)


def _series(curves: Curves, metric: str, axis: tuple[int, int, int], over: int, place: int | None) -> list[Series]:
    """The curves of a metric of a run; `place` is the run's among several, of each of which there is one."""
    role, name = ("chart", "") if place is None else (STYLES[place % len(STYLES)], str(place + 1))
    first, last, dots = axis
    if metric in METRICS:
        curve = curves.of[metric]
        points = points_of(curves, "loss", axis) if metric == "loss" else []
        of_points = "chart2" if place is None else role
        found = curve.between(first, last, dots)
        return [Series(found, points, role, of_points, name, curve.mean_before(first, over) if over else float("nan"))]
    if metric not in curves.readings:
        return [Series((), points_of(curves, metric, axis), role, role, name)]
    readings = list(curves.readings[metric].items())
    if place is not None:
        return [Series(readings[0][1].between(first, last, dots), (), role, role, name)]
    several = len(readings) > 1
    return [
        Series(one.between(first, last, dots), (), role_of(number), "", sign_of(key) if several else "")
        for number, (key, one) in enumerate(readings)
    ]


def points_of(curves: Curves, measure: str, axis: tuple[int, int, int]) -> list[tuple[int, float]]:
    """The values of a measure in the evaluations, each in its column of dots."""
    first, last, dots = axis
    found = [(one.step, one.values[measure]) for one in curves.evaluations if measure in one.values]
    return [(column_of(step, first, last, dots), value) for step, value in found if first <= step <= last]


def role_of(number: int) -> str:
    """The role of a curve among several."""
    return STYLES[number % len(STYLES)]


def sign_of(key: str) -> str:
    """The character of a curve of readings: the number of a rank or of a GPU."""
    return key if key.isdecimal() else MACHINE_SIGN


def edge(step: int, steps_total: int) -> int:
    """The end of the axis of a growing run: it doubles, so that what was drawn stays in place for a long time."""
    last = FIRST_EDGE
    while last < step:
        last *= 2
    return max(step, min(last, steps_total or last))
