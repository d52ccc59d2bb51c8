"""Which values a chart shows: the usual ones, whatever a few are."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sft_tui.screen.value_range import Range, value_range

NOISY = [2.0 + n % 10 / 10 for n in range(200)]


def of(means: list[float], points: list[float] | None = None, *, robust: bool = True) -> Range:
    found = value_range(means, means, means, points or [], robust=robust)
    assert found is not None
    return found


def test_one_peak_in_a_hundred_does_not_squeeze_the_others() -> None:
    found = of([*NOISY, 500.0, 600.0])
    assert (found.low, found.high) == (2.0, 2.9)
    assert found.cut
    assert found.sticks_out(2.0, 500.0, 500.0) == (True, False)
    assert found.sticks_out(2.0, 2.1, 2.2) == (False, False)
    assert of([*NOISY, 500.0], robust=False).high == 500.0


def test_nothing_is_cut_where_that_would_gain_little() -> None:
    found = of([*NOISY, 3.05])
    assert (found.low, found.high, found.cut) == (2.0, 3.05, False)


def test_the_range_of_columns_widens_that_of_their_means() -> None:
    found = value_range(NOISY, [one - 0.5 for one in NOISY], [one + 0.6 for one in NOISY], [], robust=True)
    assert found == Range(1.5, 3.5)
    spiky = value_range(NOISY, NOISY, [one + 90 for one in NOISY], [], robust=True)
    assert spiky is not None
    assert spiky.high < 30
    assert spiky.sticks_out(2.0, 2.5, 92.0) == (False, False)  # all columns are as high: none is a peak


def test_a_column_that_is_cut_more_than_the_others_is_a_peak() -> None:
    highs = [one + 0.3 for one in NOISY]
    highs[7] = 77.0
    found = value_range(NOISY, NOISY, highs, [], robust=True)
    assert found is not None
    assert found.sticks_out(2.0, 2.7, 77.0) == (True, False)


def test_points_are_in_the_range_if_they_are_near() -> None:
    assert of(NOISY, [3.1]).high == 3.1
    assert of(NOISY, [900.0]).high == pytest.approx(2.9 + 0.9 / 4)


def test_the_first_evaluations_are_in_the_range_of_few_steps() -> None:
    for means in ([5.2], [5.2, 5.25, 5.1]):
        found = of(means, [4.3, 6.4])
        assert (found.low, found.high, found.cut) == (4.3, 6.4, False)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(), max_size=60), st.lists(st.floats(), max_size=3), st.booleans())
def test_any_values_have_a_range_of_some_size(means: list[float], points: list[float], robust: bool) -> None:
    clamped = [max(-1e300, min(1e300, one)) if math.isfinite(one) else one for one in (*means, *points)]
    found = value_range(clamped[: len(means)], [], [], clamped[len(means) :], robust=robust)
    assert (found is None) == (not any(map(math.isfinite, clamped)))
    assert found is None or found.low < found.high or abs(found.low) > 1e290
