"""Dropout from random words drawn in one block, many times as fast on a CPU as a draw for every element.

An element is dropped where its 16 random bits are below rate × 65,536, so the rate is exact to 1/65,536, and
what is kept is scaled by the rate that was really used.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

LEVELS = 1 << 16
_WORDS = {2: (torch.int16, np.int16), 4: (torch.int32, np.int32), 8: (torch.int64, np.int64)}

Kept = npt.NDArray[np.bool_]
Words = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class Rate:
    """How much is dropped, in 65,536ths."""

    dropped: int

    @classmethod
    def of(cls, probability: float) -> "Rate":
        """The nearest rate; raises ValueError where nothing would be left."""
        dropped = round(probability * LEVELS)
        if dropped >= LEVELS:
            raise ValueError(f"dropout of {probability} leaves nothing")
        return cls(dropped)

    @property
    def scale(self) -> float:
        """What the kept elements are multiplied by, so that the mean stays."""
        return LEVELS / (LEVELS - self.dropped)


class Source:
    """Random bits of one step, drawn in the order in which they are asked for."""

    def __init__(self) -> None:
        self._bits = np.random.SFC64(0)

    def seed(self) -> None:
        """Begins anew, from a seed drawn from torch's generator."""
        self._bits = np.random.SFC64(int(torch.randint(1 << 62, ()).item()))

    def kept(self, rate: Rate, *shape: int) -> Kept | None:
        """Which elements of a tensor of this shape stay; None where all do."""
        if not rate.dropped:
            return None
        count = int(np.prod(shape))
        kept: Kept = (self._drawn(count)[:count] >= rate.dropped).reshape(shape)
        return kept

    def words(self, rate: Rate, *counts: int) -> Words | None:
        """The 16 bits of each element of tensors of so many, each from a multiple of four on, as `kept` takes them.

        Elements whose bits are below `rate.dropped` are dropped; None where all stay.
        """
        return self._drawn(*counts) if rate.dropped else None

    def _drawn(self, *counts: int) -> Words:
        return self._bits.random_raw(sum(-(-count // 4) for count in counts)).view(np.uint16)


def drop_(values: Tensor, kept: Kept | None) -> Tensor:
    """Sets what is not kept to zero in place, without scaling the rest."""
    if kept is None:
        return values
    kind, word = _WORDS[values.element_size()]
    # -1 has all bits set, 0 none: an "and" is several times as fast as a choice by booleans.
    mask: Any = np.negative(kept.view(np.int8), dtype=word)
    values.view(kind).bitwise_and_(torch.from_numpy(mask))
    return values
