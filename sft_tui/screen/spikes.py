"""Where a curve has spikes: values far above the ones before them, and values that are not finite."""

import math
import statistics
from collections.abc import Sequence

from sft_tui.curves import Bucket, averaged

FAR = 6.0  # times the usual distance from the mean
OVER = 16  # buckets of the mean that values are compared with


def spikes(buckets: Sequence[Bucket]) -> list[int]:
    """The places of the buckets in which spikes begin."""
    above: list[float] = []
    mean = math.nan
    for bucket in buckets:
        above.append(math.inf if bucket.bad else bucket.high - mean if bucket.known else math.nan)
        mean = averaged(mean, bucket._replace(known=min(1, bucket.known), total=bucket.mean), OVER)
    usual = [abs(one) for one in above if math.isfinite(one)]
    if not usual:
        return [place for place, one in enumerate(above) if one == math.inf and not _follows(above, place, math.inf)]
    limit = FAR * statistics.median(usual)
    return [place for place, one in enumerate(above) if one > limit and not _follows(above, place, limit)]


def _follows(above: Sequence[float], place: int, limit: float) -> bool:
    """Whether the bucket before a place is part of the same spike."""
    return place > 0 and above[place - 1] >= limit
