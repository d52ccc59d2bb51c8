"""The range of values that a chart shows: all of them, or without the few that would squeeze the others."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sft_tui.screen import ticks

HUGE = 1e300  # beyond this, differences may not be finite
SHARE = 0.01  # of the columns that may be cut at either end
WORTH = 1.25  # nothing is cut unless the range of all values is larger by this factor


@dataclass(frozen=True)
class Range:
    """The lowest and the highest value shown, and from where on a value that is cut is marked as a peak or a dip."""

    low: float
    high: float
    dip: float = -math.inf
    peak: float = math.inf

    @property
    def cut(self) -> bool:
        """Whether there are values outside."""
        return self.dip > -math.inf or self.peak < math.inf

    def rounded(self, most: int) -> "Range":
        """The range widened to round values, of an axis with at most `most` labels."""
        low, high = ticks.rounded(self.low, self.high, most)
        return replace(self, low=low, high=high)

    def sticks_out(self, low: float, mean: float, high: float) -> tuple[bool, bool]:
        """Whether a column with these values is cut at the top, and whether at the bottom."""
        peak = high > self.high and (high >= self.peak or mean > self.high)
        dip = low < self.low and (low <= self.dip or mean < self.low)
        return peak, dip


def value_range(
    means: Sequence[float], lows: Sequence[float], highs: Sequence[float], points: Sequence[float], *, robust: bool
) -> Range | None:
    """The range for columns with these means, lowest and highest values, and for points; None without a finite value.

    If `robust`, from the 1st to the 99th percentile of the means. The columns' own ranges widen that by at most
    as much again at either end. Points, which are few, belong to it unless one is further away than the values are
    large: such ones widen it by a quarter.
    """
    means, lows, highs, points = (sorted(filter(math.isfinite, values)) for values in (means, lows, highs, points))
    everything = [*means[:1], *means[-1:], *lows[:1], *highs[-1:], *points[:1], *points[-1:]]
    if not everything:
        return None
    all_low, all_high = min(everything), max(everything)
    if not robust or not means:
        return _widened(Range(all_low, all_high))
    low, high = _percentile(means, SHARE), _percentile(means, 1 - SHARE)
    least, most = (_percentile(lows, SHARE), _percentile(highs, 1 - SHARE)) if lows and highs else (low, high)
    reach = max(high - low, (most - least) / 4)
    far = max(reach, abs(_percentile(means, 0.5)))
    ends = [point if low - far <= point <= high + far else _clamped(point, low - reach / 4, high + reach / 4)
            for point in points]  # fmt: skip
    cut_low = min([max(low - reach, least), *ends])
    cut_high = max([min(high + reach, most), *ends])
    found = Range(cut_low, cut_high)
    if all_high - cut_low > WORTH * (cut_high - cut_low):
        found = replace(found, peak=_percentile(highs, 1 - 2 * SHARE) if highs else all_high)
    else:
        found = replace(found, high=all_high)
    if found.high - all_low > WORTH * (found.high - cut_low):
        found = replace(found, dip=_percentile(lows, 2 * SHARE) if lows else all_low)
    else:
        found = replace(found, low=all_low)
    return _widened(found)


def _percentile(values: Sequence[float], share: float) -> float:
    """The value below which this share of sorted values is, one of them."""
    return values[round((len(values) - 1) * share)]


def _clamped(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def _widened(found: Range) -> Range:
    """A range of equal values with some room around it."""
    if found.high - found.low >= 1e-12 * max(1e-290, abs(found.high)):
        return found
    around = abs(found.low) * 0.05 or 1.0
    return replace(found, low=found.low - around, high=found.high + around)
