"""Rows of unequal length laid end to end, so that no token that is computed is padding."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

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

    def places(self) -> Iterator[slice]:
        """Where each row's tokens are."""
        for end, length in zip(accumulate(self.lengths), self.lengths, strict=True):
            yield slice(end - length, end)
