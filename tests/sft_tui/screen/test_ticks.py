"""Round ticks and their labels."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sft_tui.screen import ticks

LARGE = st.floats(-1e300, 1e300)


@pytest.mark.parametrize(
    ("low", "high", "most", "expected"),
    [
        (1.9, 9.1, 6, [2, 4, 6, 8]),
        (0, 1, 4, [0, 0.5, 1]),
        (-3, 3, 6, [-2, 0, 2]),
        (0, 1e-3, 4, [0, 5e-4, 1e-3]),
        (5, 5, 4, [5]),
        (1e6, 1.1e6, 5, [1e6, 1.05e6, 1.1e6]),
    ],
)
def test_ticks_are_multiples_of_1_2_or_5(low: float, high: float, most: int, expected: list[float]) -> None:
    assert ticks.ticks(low, high, most) == pytest.approx(expected)


@settings(max_examples=25, deadline=None)
@given(LARGE, LARGE, st.integers(2, 12))
def test_any_range_has_few_ticks_within_it(one: float, other: float, most: int) -> None:
    low, high = min(one, other), max(one, other)
    found = ticks.ticks(low, high, most)
    room = 1e-6 * max(abs(low), abs(high))
    assert len(found) <= most
    assert all(low - room <= tick <= high + room for tick in found)
    assert all(len(label) <= 7 for label in ticks.labels(found, 7))


@pytest.mark.parametrize(
    ("low", "high", "most", "expected"),
    [
        (0, 3, 4, [1, 10, 100, 1000]),
        (0, 2, 8, [1, 2, 5, 10, 20, 50, 100]),
        (0.3, 0.9, 6, [2, 5]),
        (math.log10(5.2), math.log10(5.9), 4, [5.2, 5.4, 5.6, 5.8]),
        (-300, 300, 7, [1e-300, 1e-200, 1e-100, 1, 1e100, 1e200, 1e300]),
    ],
)
def test_ticks_of_a_logarithmic_axis(low: float, high: float, most: int, expected: list[float]) -> None:
    assert [10**one for one in ticks.log_ticks(low, high, most)] == pytest.approx(expected)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(1, 20))
def test_steps_are_whole_and_their_labels_exact(one: int, other: int, most: int) -> None:
    first, last = min(one, other), max(one, other)
    found = ticks.whole_ticks(first, last, most)
    assert all(first <= step <= last for step in found)
    assert len(found) <= most + 1
    apart = found[1] - found[0] if len(found) > 1 else 1
    for step in found:
        label = ticks.step_label(step, apart)
        scale = {"k": 1e3, "M": 1e6}.get(label[-1], 1)
        assert float(label.rstrip("kM").replace(",", "")) * scale == pytest.approx(step, abs=0.01)


@pytest.mark.parametrize(
    ("step", "apart", "label"),
    [(20_000, 20_000, "20k"), (0, 20_000, "0"), (1_500, 500, "1,500"), (1_200_000, 200_000, "1.2M"),
     (812_320, 20, "812,320"), (12_500, 500, "12.5k"), (1_000, 200, "1,000")],
)  # fmt: skip
def test_a_step_is_short_where_that_is_exact(step: int, apart: int, label: str) -> None:
    assert ticks.step_label(step, apart) == label


@pytest.mark.parametrize("value", [0.0, 1.0, 12345.678, 1e-9, -4.2, 1e300, 123456.0, -1.2345e-100, math.nan, -math.inf])
def test_labels_are_narrow(value: float) -> None:
    assert len(ticks.short(value, 7)) <= 7
    assert ticks.labels([value], 7)[0]


def test_labels_have_the_same_digits() -> None:
    assert ticks.labels([0.5, 1.0, 1.5], 7) == ["0.5", "1.0", "1.5"]
    assert ticks.labels([0.0, 5e9, 1e10], 7) == ["0", "5e9", "1e10"]


def test_a_range_keeps_its_ends_while_its_data_changes_little() -> None:
    assert ticks.rounded(1.93, 9.07, 6) == ticks.rounded(1.81, 9.32, 6) == (1.5, 9.5)
