"""Which rows of a token store are trained on: all, or all but those that a person left out."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from engine.data import batching
from engine.data.batching import Ids
from engine.data.token_store import COUNTED_ROWS, TokenStore


@dataclass(frozen=True)
class Selection:
    """The rows of a store that are trained on, as their numbers in it; None stands for all of them."""

    count: int
    chosen: Ids | None = None

    @classmethod
    def without(cls, store: TokenStore, left_out: Collection[int]) -> "Selection":
        """All rows but those of some rows of the data file, of which a conversation may have made several."""
        if not left_out:
            return cls(len(store))
        numbers, parts = np.array(sorted(left_out), dtype=np.int64), list[Ids]()
        for start in range(0, len(store), COUNTED_ROWS):
            rows = store.rows[start : start + COUNTED_ROWS]
            parts.append(start + np.flatnonzero(~np.isin(rows, numbers)))
        chosen = np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
        return cls(len(chosen), None if len(chosen) == len(store) else chosen)

    def samples(self, seed: int, epoch: int, start: int, end: int) -> Ids:
        """The part from `start` to `end` of an epoch's order, as numbers in the store."""
        places = batching.epoch_samples(seed, epoch, self.count, start, end)
        return places if self.chosen is None else self.chosen[places]
