"""Rows of unequal length laid end to end, so that no token that is computed is padding."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """How long each row is; their tokens follow each other in one tensor (tokens, …)."""

    lengths: tuple[int, ...]

    @classmethod
    def lay(cls, rows: Sequence[Tensor]) -> tuple[Tensor, "Rows"]:
        """The rows end to end, and where each one is."""
        return torch.cat(list(rows)), cls(tuple(len(row) for row in rows))

    @property
    def tokens(self) -> int:
        """Tokens of all rows."""
        return sum(self.lengths)

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return max(self.lengths)

    @cached_property
    def ends(self) -> npt.NDArray[np.int64]:
        """Where each row begins, and where the last one ends."""
        return np.cumsum([0, *self.lengths], dtype=np.int64)

    def places(self) -> Iterator[slice]:
        """Where each row's tokens are."""
        for end, length in zip(accumulate(self.lengths), self.lengths, strict=True):
            yield slice(end - length, end)


@dataclass(frozen=True)
class AttentionPattern:
    """Who sees whom: rows of queries and of keys, and how many heads share the width.

    Where it is causal, no query sees a later key, which the bias of the scores says too.
    """

    queries: Rows
    keys: Rows
    heads: int
    causal: bool = False

    def pairs(self) -> Iterator[tuple[slice, slice]]:
        """Where each row's queries and keys are."""
        return zip(self.queries.places(), self.keys.places(), strict=True)

    def split(self, values: Tensor, place: slice) -> Tensor:
        """The values of a row by head, (heads, tokens, width of a head)."""
        return values[place].view(place.stop - place.start, self.heads, -1).transpose(0, 1)
