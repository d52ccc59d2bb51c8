"""Rows of unequal length laid end to end, so that no padding is computed."""

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
    """The length of each row; the rows' tokens follow each other in one tensor (tokens, …)."""

    lengths: tuple[int, ...]

    @classmethod
    def lay(cls, rows: Sequence[Tensor]) -> tuple[Tensor, "Rows"]:
        """The rows end to end, with their lengths."""
        return torch.cat(list(rows)), cls(tuple(len(row) for row in rows))

    @property
    def tokens(self) -> int:
        """Number of tokens in all rows."""
        return sum(self.lengths)

    @property
    def longest(self) -> int:
        """Number of tokens in the longest row."""
        return max(self.lengths)

    @cached_property
    def ends(self) -> npt.NDArray[np.int64]:
        """The offset at which each row begins, and that at which the last one ends."""
        return np.cumsum([0, *self.lengths], dtype=np.int64)

    def places(self) -> Iterator[slice]:
        """The slice of each row's tokens."""
        for end, length in zip(accumulate(self.lengths), self.lengths, strict=True):
            yield slice(end - length, end)


@dataclass(frozen=True)
class AttentionPattern:
    """Which queries attend to which keys: the rows of each, and the number of heads that share the width.

    If it is causal, no query attends to a later key; the bias of the scores masks those too.
    """

    queries: Rows
    keys: Rows
    heads: int
    causal: bool = False

    def pairs(self) -> Iterator[tuple[slice, slice]]:
        """The slices of each row's queries and keys."""
        return zip(self.queries.places(), self.keys.places(), strict=True)

    def split(self, values: Tensor, place: slice) -> Tensor:
        """The values of a row split by head, (heads, tokens, width of a head)."""
        return values[place].view(place.stop - place.start, self.heads, -1).transpose(0, 1)


@dataclass(frozen=True)
class CausalPattern:
    """Rows whose tokens attend to themselves and to those before them, `window` in all, or to all if that is 0.

    `groups` heads of keys and values serve `heads` of queries; scores are multiplied by `scale`.
    """

    rows: Rows
    heads: int
    groups: int
    scale: float
    window: int = 0

    def split(self, values: Tensor, place: slice) -> Tensor:
        """The queries of a row by group and by the heads in it, (groups, heads of one, tokens, width)."""
        tokens, width = place.stop - place.start, values.shape[1] // self.heads
        return values[place].reshape(tokens, self.groups, -1, width).permute(1, 2, 0, 3)

    def split_keys(self, values: Tensor, place: slice) -> Tensor:
        """The keys or values of a row, (groups, 1, tokens, width)."""
        return values[place].reshape(place.stop - place.start, self.groups, 1, -1).permute(1, 2, 0, 3)

    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        """The scaled scores of a row, those of keys that a query does not see minus infinity."""
        tokens = query.shape[2]
        ahead = torch.arange(tokens) - torch.arange(tokens)[:, None]
        hidden = (ahead > 0) | (ahead <= -self.window) if self.window else ahead > 0
        found = torch.matmul(query, key.transpose(2, 3)) * self.scale
        return found.masked_fill_(hidden, -torch.inf)
