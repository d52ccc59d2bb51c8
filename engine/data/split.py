"""Which rows are sampled, and which of those are held out for validation."""

from typing import Any

import numpy as np


def split(prompts: Any, seed: int, sample: int, share: float) -> tuple[Any, Any]:
    """Which rows are held out and which are chosen at all, as masks; the same for the same seed and rows."""
    count = len(prompts)
    order = np.random.Generator(np.random.Philox(key=seed)).permutation(count)
    chosen = np.ones(count, dtype=bool)
    if sample:
        chosen[order[sample:]] = False
    held = np.zeros(count, dtype=bool)
    wanted = round(share * int(chosen.sum()))
    if wanted:
        kinds, kind_of, sizes = np.unique(prompts[chosen], return_inverse=True, return_counts=True)
        places = np.flatnonzero(chosen)
        rank = np.full(len(kinds), count)
        np.minimum.at(rank, kind_of, np.argsort(order)[places])
        by_rank = np.argsort(rank)
        enough = int(np.searchsorted(np.cumsum(sizes[by_rank]), wanted)) + 1
        held[places] = np.isin(kind_of, by_rank[: min(enough, len(kinds) - 1)])
    return held, chosen
