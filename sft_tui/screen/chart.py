"""A chart in braille characters of two by four dots, with axes; non-finite values are gaps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sft_tui.curves import Bucket
from sft_tui.screen.ink import Line

DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # of the left and of the right half, downwards
LABEL = 8  # columns of the labels on the left
BLANK = 0x2800
HUGE = 1e300  # beyond this, differences may not be finite
SMOOTHED = 24  # the average runs over this fraction of the columns of dots


@dataclass(frozen=True)
class Plot:
    """The data of a chart: a bucket per column of dots, two to a character, and points over them as (column, value)."""

    buckets: Sequence[Bucket]
    points: Sequence[tuple[int, float]]
    first: int
    last: int
    log: bool = False
    ascii: bool = False
    smooth: bool = True  # the line follows the smoothed values, else the values themselves
    scale: tuple[float, float] | None = None  # of shares, shown in percent; None: the range of the values


def columns_of(width: int) -> int:
    """The columns of dots in a chart of the given number of columns."""
    return 2 * max(1, width - LABEL - 1)


def draw(plot: Plot, width: int, height: int) -> list[Line]:
    """The chart in exactly the given number of lines; a line of text if there is nothing to draw."""
    rows, across = height - 1, max(1, width - LABEL - 1)
    if rows < 2 or width < LABEL + 8:
        return [[("", "")] for _ in range(height)]
    scale = _scale(plot)
    if scale is None:
        return [[("", "")] for _ in range(height)]
    low, high = scale
    cells = _cells(plot, low, high, rows, across)
    line = _line(plot, low, high, rows, across)
    marks = _marks(plot, low, high, rows, across)
    lines: list[Line] = []
    for row in range(rows):
        label = _label(row, rows, low, high, log=plot.log, percent=plot.scale is not None)
        lines.append([(f"{label:>{LABEL - 1}} ", "dim"), *_row(cells[row], line[row], marks.get(row, {}), plot.ascii)])
    lines.append(_axis(plot.first, plot.last, across))
    return lines


def _label(row: int, rows: int, low: float, high: float, *, log: bool = False, percent: bool = False) -> str:
    """The label next to a row: the ends of the scale, and its middle if there is room."""
    at = {0: high, rows - 1: low, rows // 2: high - (high - low) * (rows // 2) / (rows - 1)}
    if row not in at or (rows <= 4 and row == rows // 2):
        return ""
    return f"{100 * at[row]:.0f} %" if percent else number(_from_scale(at[row], log))


def _scale(plot: Plot) -> tuple[float, float] | None:
    """The lowest and the highest value drawn; None if there is none."""
    if plot.scale is not None:
        return plot.scale
    values = [_to_scale(x, plot.log) for b in plot.buckets if b.known for x in (b.low, b.high)]
    values += [_to_scale(y, plot.log) for _, y in plot.points]
    finite = [x for x in values if math.isfinite(x)]
    if not finite:
        return None
    low, high = min(finite), max(finite)
    if high - low < 1e-12 * max(1.0, abs(high)):
        around = abs(low) * 0.05 or 1.0
        low, high = low - around, high + around
    return low, high


def _to_scale(value: float, log: bool) -> float:
    if not log:
        return max(-HUGE, min(HUGE, value)) if math.isfinite(value) else value
    return math.log10(value) if value > 0 and math.isfinite(value) else math.nan


def _from_scale(value: float, log: bool) -> float:
    return 10 ** min(value, 308.0) if log else value


def _level(value: float, low: float, high: float, steps: int) -> int:
    """The row of dots of a value, from the top."""
    return min(steps - 1, max(0, round((high - value) / (high - low) * (steps - 1))))


def _cells(plot: Plot, low: float, high: float, rows: int, across: int) -> list[list[int]]:
    """The range of each bucket as dots."""
    cells = [[0] * across for _ in range(rows)]
    for column, bucket in enumerate(plot.buckets[: 2 * across]):
        ends = [_to_scale(x, plot.log) for x in (bucket.high, bucket.low)] if bucket.known else []
        if not ends or not all(map(math.isfinite, ends)):
            continue
        top, bottom = (_level(end, low, high, 4 * rows) for end in ends)
        for level in range(top, bottom + 1):
            cells[level // 4][column // 2] |= DOTS[column % 2][level % 4]
    return cells


def _line(plot: Plot, low: float, high: float, rows: int, across: int) -> list[list[int]]:
    """A line through the exponential mean of the values; broken at non-finite values."""
    cells = [[0] * across for _ in range(rows)]
    share = max(1.0, 2 * across / SMOOTHED) if plot.smooth else 1.0
    mean, before = math.nan, (-1, -1)
    for column, bucket in enumerate(plot.buckets[: 2 * across]):
        if bucket.bad and not bucket.known:
            mean = math.nan
        value = _to_scale(bucket.mean, plot.log) if bucket.known else math.nan
        if not math.isfinite(value):
            continue
        joined = math.isfinite(mean)
        gap = column - before[0]
        mean = mean + (value - mean) * (1 - (1 - 1 / share) ** gap) if joined else value
        level = _level(mean, low, high, 4 * rows)
        _join(cells, before if joined else (column - 1, level), (column, level))
        before = (column, level)
    return cells


def _join(cells: list[list[int]], one: tuple[int, int], other: tuple[int, int]) -> None:
    """The dots from one point (exclusive) to another on its right."""
    (first, begin), (last, end) = one, other
    for column in range(first + 1, last + 1):
        near = round(begin + (end - begin) * (column - 1 - first) / (last - first))
        far = round(begin + (end - begin) * (column - first) / (last - first))
        step = 1 if far >= near else -1
        for level in range(near + (step if near != far else 0), far + step, step):
            cells[level // 4][column // 2] |= DOTS[column % 2][level % 4]


def _marks(plot: Plot, low: float, high: float, rows: int, across: int) -> dict[int, dict[int, str]]:
    """Characters over the dots: points, and a cross at the bottom for a non-finite value."""
    marks: dict[int, dict[int, str]] = {}
    for column, bucket in enumerate(plot.buckets[: 2 * across]):
        if bucket.bad:
            marks.setdefault(rows - 1, {})[column // 2] = "×"
    for column, value in plot.points:
        level = _to_scale(value, plot.log)
        if math.isfinite(level) and 0 <= column < 2 * across:
            marks.setdefault(_level(level, low, high, 4 * rows) // 4, {})[column // 2] = "●"
    return marks


def _row(cells: list[int], line: list[int], marks: dict[int, str], ascii_only: bool) -> Line:
    """One row of characters; the line hides the values behind it, to keep their colours apart."""
    spans: Line = []
    for place, values in enumerate(cells):
        mark, dots = marks.get(place), line[place] or values
        role = {"●": "chart2", "×": "bad", None: "chart" if line[place] else "dim"}[mark]
        char = mark or (" " if not dots else chr(BLANK + dots) if not ascii_only else "*" if line[place] else ".")
        if spans and spans[-1][1] == role:
            spans[-1] = (spans[-1][0] + char, role)
        else:
            spans.append((char, role))
    return spans


def _axis(first: int, last: int, across: int) -> Line:
    """Steps below the chart: the first, the last, and as many in between as fit."""
    text = [" "] * across
    room = 4 if across >= 48 else 2 if across >= 24 else 1
    parts = max(1, min(room, last - first))
    for part in range(parts + 1 if last > first else 1):
        step = f"{first + (last - first) * part // parts:,}"
        place = min(max(0, (across - 1) * part // parts - len(step) // 2), across - len(step))
        if place >= 0 and all(char == " " for char in text[max(0, place - 1) : place + len(step) + 1]):
            text[place : place + len(step)] = step
    return [(" " * LABEL + "".join(text), "dim")]


def number(value: float) -> str:
    """A number as a label of at most seven columns."""
    size = abs(value)
    if value == 0 or 1e-3 <= size < 1e4:
        return f"{value:.4g}"
    if 1e4 <= size < 1e6:
        return f"{value:.0f}"
    shown = f"{value:.1e}"
    return shown if len(shown) < LABEL else f"{value:.0e}"


def overlay(plots: Sequence[Plot], roles: Sequence[str], width: int, height: int) -> list[Line]:
    """Several curves on one scale, each in its role and with its number at its end; where they meet, one is visible."""
    rows, across = height - 1, max(1, width - LABEL - 1)
    scales = [scale for plot in plots if (scale := _scale(plot)) is not None]
    if rows < 2 or width < LABEL + 8 or not scales:
        return [[("", "")] for _ in range(height)]
    low, high = min(scale[0] for scale in scales), max(scale[1] for scale in scales)
    layers = [_line(plot, low, high, rows, across) for plot in plots]
    marks = _ends(layers, roles)
    for plot in plots:
        marks |= {(rows - 1, place): ("×", "bad") for place in _marks(plot, low, high, rows, across).get(rows - 1, {})}
    lines: list[Line] = []
    for row in range(rows):
        line: Line = [(f"{_label(row, rows, low, high):>{LABEL - 1}} ", "dim")]
        for column in range(across):
            dots, role, name = 0, "", ""
            for place, layer in enumerate(layers):
                if layer[row][column]:
                    dots, role, name = layer[row][column], roles[place], str(place + 1)
            char = " " if not dots else name if plots[0].ascii else chr(BLANK + dots)
            line.append(marks.get((row, column), (char, role)))
        lines.append(line)
    return [*lines, _axis(plots[0].first, plots[0].last, across)]


def _ends(layers: Sequence[list[list[int]]], roles: Sequence[str]) -> dict[tuple[int, int], tuple[str, str]]:
    """The number of each curve at its newest dots, to tell them apart without colours."""
    marks: dict[tuple[int, int], tuple[str, str]] = {}
    for place, layer in enumerate(layers):
        ends = [(column, row) for row, cells in enumerate(layer) for column, dots in enumerate(cells) if dots]
        if not ends:
            continue
        column, row = max(ends)
        while (row, column) in marks and column:
            column -= 1
        marks[row, column] = (str(place + 1), roles[place])
    return marks
