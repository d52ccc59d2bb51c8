"""Dropout from random words that are computed where they are used, and recomputed instead of stored.

An element is dropped if its 16 random bits are below rate × 65,536, so the rate is exact to 1/65,536, and what is kept
is scaled by the rate actually used. Word number n of a seed is SplitMix64's, after Steele, Lea and
Flood, "Fast splittable pseudorandom number generators" (2014): it does not depend on the words before it.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

LEVELS = 1 << 16
ELEMENTS = 4  # in a word
BLOCK = 4096  # words computed at once, to fit the processor's cache
_GAMMA = 0x9E3779B97F4A7C15
_ROUNDS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1))  # a shift, and then a factor
_WORDS = {2: (torch.int16, np.int16), 4: (torch.int32, np.int32), 8: (torch.int64, np.int64)}

Kept = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Rate:
    """The share that is dropped, in 65,536ths."""

    dropped: int

    @classmethod
    def of(cls, probability: float) -> "Rate":
        """The nearest rate; raises ValueError if nothing would be left."""
        dropped = round(probability * LEVELS)
        if dropped >= LEVELS:
            raise ValueError(f"dropout of {probability} leaves nothing")
        return cls(dropped)

    @property
    def scale(self) -> float:
        """The factor for the kept elements that leaves the mean unchanged."""
        return LEVELS / (LEVELS - self.dropped)


def random_words(seed: int, first: int, count: int) -> npt.NDArray[np.uint64]:
    """Words of a seed from number `first` on, counted from 0."""
    words = np.empty(count, np.uint64)
    for start in range(0, count, BLOCK):
        part = words[start : start + BLOCK]
        np.multiply(np.arange(len(part), dtype=np.uint64), np.uint64(_GAMMA), out=part)
        part += np.uint64((seed + (first + start + 1) * _GAMMA) % (1 << 64))
        for shift, factor in _ROUNDS:
            part ^= part >> np.uint64(shift)
            part *= np.uint64(factor)
    return words


@dataclass(frozen=True)
class Draw:
    """The random bits for the elements of one or several tensors, not computed yet.

    Each row, along the last dimension, begins with a new word; rows and tensors follow each other.
    """

    dropped: int
    seed: int  # 62 bits
    first: int  # number of a word

    def kept(self, *shape: int) -> Kept:
        """Which elements of the first tensor, of this shape, are kept."""
        width = shape[-1]
        words = random_words(self.seed, self.first, words_of(shape))
        bits = words.view(np.uint16).reshape(-1, -(-width // ELEMENTS) * ELEMENTS)[:, :width]
        kept: Kept = (bits >= self.dropped).reshape(shape)
        return kept


def words_of(shape: tuple[int, ...]) -> int:
    """The number of words for a tensor of this shape."""
    return math.prod(shape[:-1]) * -(-shape[-1] // ELEMENTS)


class RandomBits:
    """The random bits of one step, drawn in the order in which they are requested."""

    def __init__(self) -> None:
        self._seed, self._next = 0, 0

    def seed(self) -> None:
        """Starts over from a seed drawn from torch's generator."""
        self._seed, self._next = int(torch.randint(1 << 62, ()).item()), 0

    def draw(self, rate: Rate, *shapes: tuple[int, ...]) -> Draw | None:
        """The bits for tensors of these shapes; None if all elements are kept."""
        if not rate.dropped:
            return None
        first = self._next
        self._next += sum(map(words_of, shapes))
        return Draw(rate.dropped, self._seed, first)

    def kept(self, rate: Rate, *shape: int) -> Kept | None:
        """Which elements of a tensor of this shape are kept; None if all are."""
        draw = self.draw(rate, shape)
        return None if draw is None else draw.kept(*shape)


def drop_(values: Tensor, draw: Draw | None) -> Tensor:
    """Sets the dropped elements to zero in place, without scaling the rest."""
    if draw is None:
        return values
    kept = draw.kept(*values.shape)
    kind, word = _WORDS[values.element_size()]
    # -1 has all bits set, 0 none: an "and" is several times as fast as a choice by booleans.
    mask: Any = np.negative(kept.view(np.int8), dtype=word)
    values.view(kind).bitwise_and_(torch.from_numpy(mask))
    return values
