"""A chart in braille characters of two by four dots, with axes; non-finite values are gaps."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from sft_tui.curves import Bucket, averaged
from sft_tui.screen import ticks
from sft_tui.screen.ink import Line
from sft_tui.screen.value_range import HUGE, Range, value_range

DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # of the left and of the right half, downwards
LABEL = 8  # columns of the labels on the left
BRAILLE = [" ", *(chr(0x2800 + dots) for dots in range(1, 256))]
# The dots of a half from one level (first index) down to another.
STRETCHES = [[[sum(half[top : bottom + 1]) for bottom in range(4)] for top in range(4)] for half in DOTS]
STEP_LABEL = 10  # columns per label of a step, at least
MOST_LABELS = 8  # of values
PEAK, DIP, GAP, POINT = "▲", "▼", "×", "●"

Marks = list[dict[int, tuple[str, str]]]  # by row and column: characters over the dots, with their roles
Ends = tuple[float, float, float]  # lowest value, mean and highest value
Layer = list[dict[int, int]]  # dots, by row and column


@dataclass(frozen=True)
class Series:
    """A curve: a bucket per column of dots, two to a character, and points as (column of dots, value)."""

    buckets: Sequence[Bucket] = ()
    points: Sequence[tuple[int, float]] = ()
    role: str = "chart"
    of_points: str = "chart2"  # the role of the points
    name: str = ""  # a character at its end, which tells it from others
    before: float = math.nan  # the mean of the values before the first bucket


@dataclass(frozen=True)
class Plot:
    """The data of a chart, and how it is drawn. The range of each bucket is shown if there is one series."""

    series: Sequence[Series]
    first: int
    last: int
    log: bool = False
    ascii: bool = False
    over: int = 0  # the line is the exponential mean over this many steps
    limits: tuple[float, float] | None = None  # of the values; None: those of the data
    robust: bool = False  # a few columns with far higher or lower values than the others are cut
    joined: bool = True  # a line joins the points
    unit: float = 1.0  # what a label of 1 means
    percent: bool = False
    cursor: int = -1  # the column under the cursor; -1: no cursor


def columns_of(width: int) -> int:
    """The columns of dots in a chart of the given number of columns."""
    return 2 * max(1, width - LABEL - 1)


def draw(plot: Plot, width: int, height: int) -> list[Line]:
    """The chart in exactly the given number of lines; empty ones if there is nothing to draw."""
    rows, across = height - 1, max(1, width - LABEL - 1)
    if rows < 2 or width < LABEL + 8:
        return [[("", "")] for _ in range(height)]
    series = (replace(one, buckets=tuple(one.buckets), points=tuple(one.points)) for one in plot.series)
    ground = _ground(replace(plot, series=tuple(series), cursor=-1), rows, across)
    if ground is None:
        return [[("", "")] for _ in range(height)]
    lines: list[Line] = []
    for row in range(rows):
        marks = dict(ground.curves[row])
        if 0 <= plot.cursor < across:  # a line from top to bottom, crossed by the curve
            marks[plot.cursor] = ("┼" if plot.cursor in marks else "│", "accent")
        marks |= ground.signs[row]
        label = f"{ground.labels.get(row, ''):>{LABEL - 1}} "
        lines.append([(label, "dim"), *_row(ground.band[row], marks, plot.ascii)])
    lines.append(_axis(plot.first, plot.last, across))
    return lines


@dataclass(frozen=True)
class Ground:
    """What does not change while the cursor moves: dots of the range, characters of curves, signs over the cursor."""

    band: list[list[int]]
    curves: Marks
    signs: Marks
    labels: dict[int, str]  # by row


@lru_cache(maxsize=8)  # the charts of one screen, each for the next key
def _ground(plot: Plot, rows: int, across: int) -> Ground | None:
    scaled = [_scaled(plot, one, across) for one in plot.series]
    found = _range(plot, scaled, rows)
    if found is None:
        return None
    curves: Marks = [{} for _ in range(rows)]
    signs: Marks = [{} for _ in range(rows)]
    band = _band(scaled[0] if len(scaled) == 1 else [], found, rows, across)
    _draw_lines(plot, found, curves, across)
    _draw_marks(plot, scaled, found, signs, across)
    return Ground(band, curves, signs, _labels(plot, found, rows))


def shows_cuts(lines: Sequence[Line]) -> bool:
    """Whether a chart has marks of values that are cut."""
    return any(PEAK in text or DIP in text for line in lines for text, _ in line)


def _scaled(plot: Plot, series: Series, across: int) -> list[Ends | None]:
    """Lowest value, mean and highest value of each bucket on the scale; None if they are not all on it.

    Of several series only the means are shown.
    """
    found: list[Ends | None] = []
    alone = len(plot.series) == 1
    for bucket in series.buckets[: 2 * across]:
        ends = None
        if bucket.known and not alone:
            mean = _to_scale(bucket.mean, plot)
            ends = (mean, mean, mean) if mean == mean else None
        elif bucket.known:
            low, mean, high = (_to_scale(one, plot) for one in (bucket.low, bucket.mean, bucket.high))
            ends = (low, mean, high) if low == low and high == high else None
        found.append(ends)
    return found


def _range(plot: Plot, scaled: Sequence[Sequence[Ends | None]], rows: int) -> Range | None:
    if plot.limits is not None:
        return Range(*(_to_scale(end, plot) for end in plot.limits))
    known = [ends for of in scaled for ends in of if ends is not None]
    lows, means, highs = ([ends[place] for ends in known] for place in range(3))
    points = [_to_scale(value, plot) for one in plot.series for _, value in one.points]
    found = value_range(means, lows, highs, points, robust=plot.robust)
    return found and found.rounded(_most_labels(rows))


def _most_labels(rows: int) -> int:
    return max(2, min(MOST_LABELS, rows * 2 // 5))


def _to_scale(value: float, plot: Plot) -> float:
    if not math.isfinite(value):
        return math.nan
    value /= plot.unit
    if plot.log:
        return math.log10(value) if value > 0 else math.nan
    return max(-HUGE, min(HUGE, value))


def _level(value: float, found: Range, steps: int) -> int:
    """The row of dots of a value, from the top."""
    share = (found.high - value) / (found.high - found.low)  # infinite for a value far from a narrow range
    return round(min(1.0, max(0.0, share)) * (steps - 1))


def _band(scaled: Sequence[Ends | None], found: Range, rows: int, across: int) -> list[list[int]]:
    """The range of each bucket as dots, by row and column."""
    cells = [[0] * across for _ in range(rows)]
    for column, ends in enumerate(scaled):
        if ends is None:
            continue
        top, bottom = _level(ends[2], found, 4 * rows), _level(ends[0], found, 4 * rows)
        place, stretches = column // 2, STRETCHES[column % 2]
        first, last = top // 4, bottom // 4
        for row in range(first, last + 1):
            cells[row][place] |= stretches[top % 4 if row == first else 0][bottom % 4 if row == last else 3]
    return cells


def _draw_lines(plot: Plot, found: Range, marks: Marks, across: int) -> None:
    """The lines of all series, those of later ones over those of earlier ones, and names at their ends."""
    ends: list[tuple[int, int, Series]] = []
    for series in plot.series:
        points = _points_line(plot, series, found, len(marks), across) if plot.joined else []
        mean = _mean_line(plot, series, found, len(marks), across)
        for layer, role in ((points, series.of_points), (mean, series.role)):
            for row, cells in enumerate(layer):
                for place, dots in cells.items():
                    char = (series.name or "*") if plot.ascii else BRAILLE[dots]
                    marks[row][place] = (char, role)
        last = max(
            ((place, row) for layer in (points, mean) for row, cells in enumerate(layer) for place in cells),
            default=None,
        )
        if last is not None and series.name:
            ends.append((*last, series))
    taken: set[tuple[int, int]] = set()
    for place, row, series in ends:
        free = [one for one in range(len(marks)) if (one, place) not in taken]
        row = min(free, key=lambda one: abs(one - row), default=row)
        taken.add((row, place))
        marks[row][place] = (series.name, series.role)


def _mean_line(plot: Plot, series: Series, found: Range, rows: int, across: int) -> Layer:
    """A line through the means, smoothed over `plot.over` steps; broken at non-finite values."""
    cells: Layer = [{} for _ in range(rows)]
    mean, before = series.before, (-1, -1)
    for column, bucket in enumerate(series.buckets[: 2 * across]):
        if not bucket.known and not bucket.bad:
            continue
        mean = averaged(mean, bucket, plot.over)
        value = _to_scale(mean, plot)
        if math.isnan(value):
            before = (-1, -1)
            continue
        level = _level(value, found, 4 * rows)
        _join(cells, before if before[0] >= 0 else (column - 1, level), (column, level))
        before = (column, level)
    return cells


def _points_line(plot: Plot, series: Series, found: Range, rows: int, across: int) -> Layer:
    """A line from point to point."""
    cells: Layer = [{} for _ in range(rows)]
    before: tuple[int, int] | None = None
    for column, value in series.points:
        scaled = _to_scale(value, plot)
        if math.isnan(scaled):
            before = None
        elif 0 <= column < 2 * across:
            level = _level(scaled, found, 4 * rows)
            if before is not None and before[0] < column:
                _join(cells, before, (column, level))
            before = (column, level)
    return cells


def _join(cells: Layer, one: tuple[int, int], other: tuple[int, int]) -> None:
    """The dots from one point (exclusive) to another on its right."""
    (first, begin), (last, end) = one, other
    for column in range(first + 1, last + 1):
        near = round(begin + (end - begin) * (column - 1 - first) / (last - first))
        far = round(begin + (end - begin) * (column - first) / (last - first))
        step = 1 if far >= near else -1
        place, half = column // 2, DOTS[column % 2]
        for level in range(near + (step if near != far else 0), far + step, step):
            row = cells[level // 4]
            row[place] = row.get(place, 0) | half[level % 4]


def _draw_marks(plot: Plot, scaled: Sequence[Sequence[Ends | None]], found: Range, marks: Marks, across: int) -> None:
    """Points, peaks and dips that are cut, and a cross at the bottom for a non-finite value."""
    for series, of in zip(plot.series, scaled, strict=True):
        for column, ends in enumerate(of):
            if series.buckets[column].bad:
                marks[-1][column // 2] = (GAP, "bad")
            elif found.cut and ends is not None:
                peak, dip = found.sticks_out(*ends)
                if peak:
                    marks[0][column // 2] = (PEAK, "warn")
                if dip:
                    marks[-1][column // 2] = (DIP, "warn")
        _draw_points(plot, series, found, marks, across)


def _draw_points(plot: Plot, series: Series, found: Range, marks: Marks, across: int) -> None:
    for column, value in series.points:
        scaled = _to_scale(value, plot)
        if not math.isnan(scaled) and 0 <= column < 2 * across:
            sign = PEAK if scaled > found.high else DIP if scaled < found.low else POINT
            marks[_level(scaled, found, 4 * len(marks)) // 4][column // 2] = (sign, series.of_points)


def _row(band: list[int], marks: dict[int, tuple[str, str]], ascii_only: bool) -> Line:
    """One row of characters; marks hide the range behind them, to keep their colours apart."""
    text = "".join([" " if not dots else "." for dots in band] if ascii_only else [BRAILLE[dots] for dots in band])
    spans: Line = []
    done = 0
    for place in sorted(marks):
        char, role = marks[place]
        if place > done:
            spans.append((text[done:place], "dim"))
        if spans and spans[-1][1] == role and place == done:
            spans[-1] = (spans[-1][0] + char, role)
        else:
            spans.append((char, role))
        done = place + 1
    if done < len(text):
        spans.append((text[done:], "dim"))
    return spans


def _labels(plot: Plot, found: Range, rows: int) -> dict[int, str]:
    """The labels of round values, by row."""
    most = _most_labels(rows)
    if plot.percent:
        values = ticks.ticks(found.low, found.high, most)
        shown = [f"{value:g} %" for value in values]
    elif plot.log:
        values = ticks.log_ticks(found.low, found.high, most)
        shown = ticks.labels([10 ** min(value, 308.0) for value in values], LABEL - 1)
    else:
        values = ticks.ticks(found.low, found.high, most)
        shown = ticks.labels(values, LABEL - 1)
    rows_of = [_level(value, found, 4 * rows) // 4 for value in values]
    return dict(zip(rows_of, shown, strict=True))


def _axis(first: int, last: int, across: int) -> Line:
    """Round steps below the chart, as many as fit."""
    text = [" "] * across
    steps = ticks.whole_ticks(first, last, max(1, across // STEP_LABEL))
    apart = steps[1] - steps[0] if len(steps) > 1 else 1
    for step, place in zip(steps, _places(steps, first, last, across), strict=True):
        label = ticks.step_label(step, apart)
        begin = min(max(0, place - len(label) // 2), across - len(label))
        if begin >= 0 and all(char == " " for char in text[max(0, begin - 1) : begin + len(label) + 1]):
            text[begin : begin + len(label)] = label
    return [(" " * LABEL + "".join(text), "dim")]


def _places(steps: Sequence[int], first: int, last: int, across: int) -> Iterator[int]:
    """The columns in which steps are drawn."""
    span = max(1, last - first + 1)
    for step in steps:
        yield (step - first) * 2 * across // span // 2
