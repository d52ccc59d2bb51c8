"""Where the spikes of a curve are."""

import math

from sft_tui.curves import Bucket, Curve
from sft_tui.screen.spikes import spikes


def buckets(values: list[float]) -> list[Bucket]:
    curve = Curve()
    for number, value in enumerate(values, 1):
        curve.add(number, value)
    return curve.buckets


def test_values_far_above_the_mean_before_them_are_spikes() -> None:
    values = [2.0 + n % 5 / 10 for n in range(100)]
    values[40], values[41], values[70] = 30.0, 31.0, 50.0
    assert spikes(buckets(values)) == [40, 70]


def test_values_that_are_not_finite_are_spikes() -> None:
    assert spikes(buckets([2.0, 2.1, math.nan, math.nan, 2.0, 2.1])) == [2]
    assert spikes(buckets([math.nan])) == [0]


def test_a_smooth_curve_has_none() -> None:
    assert spikes(buckets([10 - n / 100 for n in range(500)])) == []
    assert spikes([]) == []
