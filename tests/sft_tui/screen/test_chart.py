import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sft_tui.curves import Curve
from sft_tui.screen import chart
from sft_tui.screen.chart import Plot, Series
from sft_tui.screen.ink import columns

FLOATS = st.floats(allow_nan=True, allow_infinity=True)
LEVEL = 0x2800


def curve(values: list[float]) -> Curve:
    made = Curve()
    for number, value in enumerate(values, 1):
        made.add(number, value)
    return made


def series(values: list[float], width: int, **how: Any) -> Series:
    return Series(curve(values).between(1, max(1, len(values)), chart.columns_of(width)), **how)


def plot(values: list[float], width: int, **how: Any) -> Plot:
    return Plot([series(values, width)], 1, max(1, len(values)), **how)


def text(lines: list[list[tuple[str, str]]]) -> list[str]:
    return ["".join(part for part, _ in line) for line in lines]


def dots(lines: list[list[tuple[str, str]]], role: str) -> int:
    """The characters with dots in a role."""
    return sum(char > chr(LEVEL) for line in lines for text, of in line if of == role for char in text)


def labels(lines: list[list[tuple[str, str]]]) -> list[str]:
    return [label for line in text(lines)[:-1] if (label := line[: chart.LABEL].strip())]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.lists(FLOATS, max_size=50), min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(-5, 200), FLOATS), max_size=5),
    st.integers(0, 90),
    st.integers(0, 24),
    st.booleans(),
    st.booleans(),
)
def test_any_values_make_a_chart_of_any_size(
    values: list[list[float]], points: list[tuple[int, float]], width: int, height: int, log: bool, robust: bool
) -> None:
    of = [series(one, max(1, width), points=sorted(points), name=str(place)) for place, one in enumerate(values)]
    lines = chart.draw(Plot(of, 1, 50, log, log, 8, robust=robust, cursor=width // 2), width, height)
    assert len(lines) == max(0, height)
    assert all(columns(line) <= max(width, 0) for line in lines)


def test_a_falling_curve_begins_at_the_top_and_ends_at_the_bottom() -> None:
    lines = text(chart.draw(plot([10.0 - n / 10 for n in range(100)], 60), 60, 11))
    assert lines[0][chart.LABEL] != " "
    assert lines[-2].rstrip()[-1] not in " "
    assert lines[-1].split() == ["20", "40", "60", "80", "100"]


def test_labels_of_values_are_round() -> None:
    assert labels(chart.draw(plot([9.033, 6.9, 5.004, 0.4], 60), 60, 14)) == ["8", "6", "4", "2", "0"]
    assert labels(chart.draw(plot([9e-4, 3e-5], 60), 60, 14)) == ["0.0008", "0.0006", "0.0004", "0.0002", "0"]


def test_nan_and_infinity_are_marked_and_break_the_line() -> None:
    values = [5.0] * 20 + [math.nan] * 20 + [5.0] * 20
    lines = text(chart.draw(plot(values, 60), 60, 9))
    assert "×" in lines[-2]
    drawn = [line[chart.LABEL :] for line in lines[:-2]]
    middle = [line[24:28] for line in drawn]
    assert not any(part.strip() for part in middle)


def test_a_curve_without_finite_values_draws_nothing() -> None:
    assert text(chart.draw(plot([math.nan, math.inf], 60), 60, 9)) == [""] * 9


def test_a_logarithmic_scale_puts_equal_ratios_apart_equally() -> None:
    lines = text(chart.draw(plot([1000.0, 100.0, 10.0, 1.0], 60, log=True), 60, 14))
    rows = {label: row for row, line in enumerate(lines) if (label := line[: chart.LABEL].strip())}
    assert abs((rows["10"] - rows["100"]) - (rows["100"] - rows["1000"])) <= 1
    assert rows["1"] - rows["1000"] >= 11


def test_evaluations_are_points_joined_by_a_line() -> None:
    base = series([9.0, 9.0, 9.0, 9.0], 60)
    shown = Plot([Series(base.buckets, ((0, 1.0), (90, 1.0)))], 1, 4)
    lines = chart.draw(shown, 60, 9)
    assert sum(text.count("●") for line in lines for text, role in line if role == "chart2") == 2
    assert dots(lines, "chart2") > 40
    assert dots(chart.draw(Plot(shown.series, 1, 4, joined=False), 60, 9), "chart2") == 0


def test_ascii_charts_are_ascii() -> None:
    lines = text(chart.draw(plot([3.0, 2.0, 1.0], 60, ascii=True), 60, 9))
    assert all(line.isascii() for line in lines)


def test_curves_of_a_chart_share_one_scale_and_have_names() -> None:
    both = [series([4.0, 3.0], 60, name="1"), series([2.0, 1.0], 60, name="2", role="good")]
    lines = chart.draw(Plot(both, 1, 2), 60, 14)
    assert labels(lines) == ["4", "3", "2", "1"]
    assert any("1" in part for line in lines for part, role in line if role == "chart")
    assert {role for line in lines for part, role in line if part.strip()} >= {"chart", "good"}
    assert "2" in text(lines)[-2]


def test_a_peak_is_cut_and_marked_unless_all_is_shown() -> None:
    values = [2.0 + n % 7 / 10 for n in range(300)]
    values[150] = 60.0
    cut = plot(values, 100, robust=True)
    lines = text(chart.draw(cut, 100, 14))
    assert lines[0].count("▲") == 1
    assert lines[0].index("▲") in (52, 53, 54)
    assert labels(chart.draw(cut, 100, 14)) == ["2.6", "2.4", "2.2", "2.0"]
    assert chart.shows_cuts(chart.draw(cut, 100, 14))
    everything = plot(values, 100)
    assert not chart.shows_cuts(chart.draw(everything, 100, 14))
    assert "▲" not in "".join(text(chart.draw(everything, 100, 14)))
    assert labels(chart.draw(everything, 100, 14))[0] == "60"


def test_a_dip_is_cut_and_marked() -> None:
    values = [2.0 + n % 7 / 10 for n in range(300)]
    values[150] = -60.0
    assert text(chart.draw(plot(values, 100, robust=True), 100, 14))[-2].count("▼") == 1


def test_an_evaluation_beyond_the_range_is_marked() -> None:
    base = series([2.0 + n % 7 / 10 for n in range(300)], 100)
    lines = text(chart.draw(Plot([Series(base.buckets, ((9, 500.0),))], 1, 300, robust=True), 100, 14))
    assert "▲" in lines[0]
    assert "●" not in "".join(lines)


@pytest.mark.parametrize(
    ("values", "point", "mark"),
    [
        ([3.05e-230, 3.45e-230], 1e77, "▲"),
        ([3.05e-230, 3.45e-230], -1e77, "▼"),
        ([1e-300, 2e-300], 1.7e308, "▲"),
        ([-1.7e308, 1.7e308], 5e-324, ""),
    ],
)
@pytest.mark.parametrize("log", [False, True])
def test_an_evaluation_as_far_away_as_numbers_go_is_drawn(
    values: list[float], point: float, mark: str, log: bool
) -> None:
    base = series(values, 60)
    drawn = Plot([Series(base.buckets, ((0, point), (90, point)))], 1, 2, robust=True, log=log)
    shown = "".join(text(chart.draw(drawn, 60, 14)))
    assert log or mark in shown


def line_levels(values: list[float], over: int) -> list[int]:
    """The levels of the line's dots, one step in each column of dots."""
    width = len(values) // 2 + chart.LABEL + 1
    low, high = min(values), max(values)
    shown = Plot([series(values, width)], 1, len(values), over=over, limits=(low, high))
    rows = [line[1:] for line in chart.draw(shown, width, 41)[:-1]]
    return [_lowest(rows, column) for column in range(len(values))]


def _lowest(rows: list[list[tuple[str, str]]], column: int) -> int:
    found = []
    for row, line in enumerate(rows):
        cells = [(char, role) for text, role in line for char in text]
        char, role = cells[column // 2]
        if role == "chart":
            found += [4 * row + bit for bit in range(4) if (ord(char) - LEVEL) & chart.DOTS[column % 2][bit]]
    return max(found)


def test_smoothing_is_the_exponential_mean_of_the_line() -> None:
    values = [8.0] * 4 + [0.0] * 36
    levels = line_levels(values, 8)
    mean, expected = values[0], []
    for value in values:
        mean += (value - mean) / 8
        expected.append(round((8.0 - mean) / 8.0 * 159))
    assert levels == expected
    assert line_levels(values, 0)[4] == 159


def test_smoothing_leaves_the_range_as_it_is() -> None:
    values = [5.0 + n % 2 for n in range(80)]

    def rows(over: int) -> list[int]:
        lines = chart.draw(plot(values, 60, over=over), 60, 12)[:-1]
        return [row for row, line in enumerate(lines) if dots([line], "dim")]

    assert rows(64)[-1] == rows(8)[-1] == 10  # the lowest value
    assert rows(64)[0] == rows(8)[0] == 0


def test_the_cursor_is_a_line_that_crosses_the_curve() -> None:
    lines = text(chart.draw(plot([2.0] * 100, 60, cursor=20), 60, 12))
    column = [line[chart.LABEL + 20] for line in lines[:-1]]
    assert column.count("┼") == 1
    assert column.count("│") == 10


@pytest.mark.parametrize(("first", "last"), [(1, 1), (1, 2), (1, 4), (7, 9), (0, 64), (996, 1_000), (1, 1_000_000)])
@pytest.mark.parametrize("width", [30, 60, 110])
def test_no_step_is_on_the_axis_twice(first: int, last: int, width: int) -> None:
    found = Curve()
    found.add(last, 1.0)
    lines = chart.draw(Plot([Series(found.between(first, last, chart.columns_of(width)))], first, last), width, 8)
    steps = text(lines)[-1].split()
    assert steps
    assert len(set(steps)) == len(steps)
