"""Round ticks of an axis, in steps of 1, 2 or 5 times a power of ten, and their labels."""

import math
from collections.abc import Sequence

STEPS = (1, 2, 5, 10)


def step_of(low: float, high: float, most: int) -> float:
    """The smallest round step with which at most `most` ticks fit between two finite numbers; 0 if they are equal."""
    least = (high - low) / max(1, most)
    if not 0 < least < math.inf:
        return 0.0
    power = math.floor(math.log10(least))
    unit = float(f"1e{power}") if power > -308 else 0.0
    return next((unit * one for one in STEPS if unit * one >= least * (1 - 1e-9)), 10 * unit)


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers from `low` to `high`, at most about `most` of them."""
    step = step_of(low, high, most)
    if not step or not math.isfinite(low / step) or abs(low / step) > 1e12:
        return [low]
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    if last - first >= most > 1:  # both ends are ticks
        return ticks(low, high, most - 1)
    return [_clean(number * step, step) for number in range(first, last + 1)]


def whole_ticks(first: int, last: int, most: int) -> list[int]:
    """Round steps of a run from `first` to `last`."""
    step = max(1, round(step_of(first, last, most)))
    begin = -(-first // step) * step
    return list(range(begin, last + 1, step)) or [first]


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Powers of ten from `low` to `high`, both logarithms; with twice and five times these if there is room.

    Within less than a decade, round numbers as on a linear axis. They are returned as logarithms.
    """
    first, last = math.floor(low + 1e-9), math.ceil(high - 1e-9)
    for factors in ((1, 2, 5), (1, 5), (1,)):
        found = [power + math.log10(one) for power in range(first, last + 1) for one in factors]
        found = [one for one in found if low - 1e-9 <= one <= high + 1e-9]
        if 2 <= len(found) <= most:
            return found
    if len(found) > most:
        return [float(power) for power in whole_ticks(first, last, most) if low - 1e-9 <= power <= high + 1e-9]
    linear = ticks(10.0**low, 10.0**high, most) if max(abs(low), abs(high)) < 300 else []
    return [math.log10(one) for one in linear if one > 0]


def rounded(low: float, high: float, most: int) -> tuple[float, float]:
    """A range widened to quarters of its round steps, so that it stays the same while its data changes little."""
    part = step_of(low, high, most) / 4
    if not part or max(abs(low), abs(high)) / part > 1e12:
        return low, high
    return math.floor(low / part + 1e-9) * part, math.ceil(high / part - 1e-9) * part


def labels(values: Sequence[float], width: int) -> list[str]:
    """Numbers with the same digits after the point, as few as tell them apart, within `width` columns each."""
    finite = [abs(value) for value in values if math.isfinite(value)]
    largest, least = max(finite, default=0.0), min((one for one in finite if one), default=0.0)
    if 1e-3 <= largest < 1e6 and least >= 1e-5:
        for places in range(6):
            found = [f"{value:,.{places}f}" if largest >= 1e4 else f"{value:.{places}f}" for value in values]
            if all(
                _same(float(one.replace(",", "")), value, largest) for one, value in zip(found, values, strict=True)
            ):
                found = ["0" if not value else one for one, value in zip(found, values, strict=True)]
                return found if max(map(len, found), default=0) <= width else [short(value, width) for value in values]
    return [short(value, width) for value in values]


def short(value: float, width: int) -> str:
    """A number within `width` columns, at least seven, as exactly as they allow."""
    if value == 0 or not math.isfinite(value):
        return f"{value:.0f}"[:width]
    for digits in range(5, 0, -1):
        for form in (f"{value:.{digits}g}", f"{value:.{digits - 1}e}"):
            shown = _exponent(form)
            if len(shown) <= width:
                return shown
    return _exponent(f"{value:.0e}")[:width]


def step_label(step: int, apart: int) -> str:
    """A step of a run as a label: `20k`, `1.5M`; exact, given that labels are `apart`."""
    if apart >= 10_000 and step >= 1_000_000:
        return f"{step / 1e6:.10g}M"
    if (apart >= 100 and step >= 10_000) or (apart >= 1000 and step):
        return f"{step / 1e3:.10g}k"
    return f"{step:,}"


def _clean(value: float, step: float) -> float:
    """A multiple of a step without the last bit's noise."""
    return float(f"{value:.12g}") if abs(value) > step / 2 else 0.0


def _same(one: float, other: float, largest: float) -> bool:
    return abs(one - other) <= 1e-6 * largest


def _exponent(text: str) -> str:
    """`2e-4` in place of `2e-04`, without zeros after the point."""
    mantissa, mark, power = text.partition("e")
    if "." in mantissa and mark:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa}e{int(power)}" if mark else text
