import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sft_tui.curves import Curve
from sft_tui.screen import chart
from sft_tui.screen.ink import columns

FLOATS = st.floats(allow_nan=True, allow_infinity=True)


def plot(values: list[float], width: int, **how: Any) -> chart.Plot:
    curve = Curve()
    for number, value in enumerate(values, 1):
        curve.add(number, value)
    return chart.Plot(curve.between(1, max(1, len(values)), chart.columns_of(width)), (), 1, max(1, len(values)), **how)


def text(lines: list[list[tuple[str, str]]]) -> list[str]:
    return ["".join(part for part, _ in line) for line in lines]


@settings(deadline=None)
@given(st.lists(FLOATS, max_size=50), st.integers(0, 90), st.integers(0, 24), st.booleans())
def test_any_values_make_a_chart_of_any_size(values: list[float], width: int, height: int, log: bool) -> None:
    lines = chart.draw(plot(values, max(1, width), log=log), width, height)
    assert len(lines) == max(0, height)
    assert all(columns(line) <= max(width, 0) for line in lines)


def test_a_falling_curve_begins_at_the_top_and_ends_at_the_bottom() -> None:
    lines = text(chart.draw(plot([10.0 - n / 10 for n in range(100)], 60), 60, 11))
    assert lines[0].strip().startswith("10 ")
    assert lines[0][chart.LABEL] != " "
    assert lines[-2].rstrip()[-1] not in " "
    assert lines[-2].strip().startswith("0.1 ")
    assert lines[-1].split() == ["1", "25", "50", "75", "100"]


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
    labels = [line[: chart.LABEL].strip() for line in lines[:-1]]
    assert (labels[0], labels[-1]) == ("1000", "1")
    assert math.isclose(float(labels[6]), math.sqrt(1000), rel_tol=0.01)


def test_evaluations_are_points_over_the_curve() -> None:
    base = plot([2.0, 2.0, 2.0, 1.0], 60)
    shown = chart.Plot(base.buckets, ((50, 1.5),), 1, 4)
    spans = [span for line in chart.draw(shown, 60, 9) for span in line]
    assert ("●", "chart2") in spans


def test_ascii_charts_are_ascii() -> None:
    assert all(line.isascii() for line in text(chart.draw(plot([3.0, 2.0, 1.0], 60, ascii=True), 60, 9)))


def test_overlaid_curves_share_one_scale() -> None:
    plots = [plot([4.0, 3.0], 60), plot([2.0, 1.0], 60)]
    lines = chart.overlay(plots, ("chart", "chart2"), 60, 9)
    assert text(lines)[0].strip().startswith("4 ")
    assert text(lines)[-2].strip().startswith("1 ")
    assert {role for line in lines for part, role in line if part.strip()} >= {"chart", "chart2"}


@pytest.mark.parametrize("value", [0.0, 1.0, 12345.678, 1e-9, -4.2, 1e300, 123456.0])
def test_labels_are_narrow(value: float) -> None:
    assert len(chart.number(value)) < chart.LABEL


@pytest.mark.parametrize(("first", "last"), [(1, 1), (1, 2), (1, 4), (7, 9), (1, 64), (996, 1_000)])
@pytest.mark.parametrize("width", [30, 60, 110])
def test_no_step_is_on_the_axis_twice(first: int, last: int, width: int) -> None:
    curve = Curve()
    for number in range(1, last + 1):
        curve.add(number, float(number))
    lines = chart.draw(chart.Plot(curve.between(first, last, chart.columns_of(width)), (), first, last), width, 8)
    steps = text(lines)[-1].split()
    assert len(set(steps)) == len(steps)
    assert (steps[0], steps[-1]) == (f"{first:,}", f"{last:,}")
