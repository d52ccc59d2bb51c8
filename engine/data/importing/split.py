"""Which rows are sampled, and which of those are held out for validation and for a test.

Rows of one group (equal prompts, or answers of one conversation) stay in one part. Groups are drawn in random order,
all equally likely, and one that would hold out more than was requested is skipped. A group of more than twice the
requested rows is divided by the share: held out whole it would be too much, and left whole for training it would
hide a large part of the data from the evaluation.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

TRAIN, UNUSED = 0, -1  # parts; held out parts are 1, 2, … in the order of their shares
Hashes = npt.NDArray[np.uint64]
Sizes = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Split:
    """The part of each row, and what was divided among several parts: the number of groups, and rows of the largest."""

    parts: npt.NDArray[np.int8]
    divided: int = 0
    largest: int = 0

    def rows(self, part: int) -> int:
        """How many rows a part has."""
        return int((self.parts == part).sum())


def split(prompts: Hashes, groups: Hashes, seed: int, sample: int, shares: Sequence[float]) -> Split:
    """The parts of rows by the hashes of their prompts and groups; the same for the same seed and rows.

    `sample` rows are taken at random, all if it is 0. At least one row stays for training, and each share above 0
    holds out at least one row if there are enough.
    """
    chance = np.random.Generator(np.random.Philox(key=seed))
    order = chance.permutation(len(prompts))
    places = np.sort(order[:sample]) if sample else np.arange(len(prompts))
    parts = np.full(len(prompts), UNUSED, dtype=np.int8)
    parts[places] = TRAIN
    if not len(places):
        return Split(parts)
    chosen, kinds = np.full(len(places), TRAIN, dtype=np.int8), _kinds(prompts[places], groups[places])
    for part, wanted in enumerate(_wanted(shares, len(places)), 1):
        free = chosen == TRAIN
        most = int(free.sum()) - 1  # whole groups may have made an earlier part larger than requested
        if wanted and most:
            chosen[_held_out(kinds, free, min(wanted, most), chance)] = part
    parts[places] = chosen
    return Split(parts, *_divided(kinds, chosen))


def _kinds(prompts: Hashes, groups: Hashes) -> npt.NDArray[np.intp]:
    """A number for each row, equal for rows that must stay together: those linked by equal prompts or equal groups."""
    _, prompt = np.unique(prompts, return_inverse=True)
    _, kind = np.unique(groups, return_inverse=True)
    while True:
        before = kind
        for link in (prompt, kind):
            lowest = np.full(int(link.max()) + 1, len(prompts))
            np.minimum.at(lowest, link, kind)
            kind = lowest[link]
        if (kind == before).all():
            return np.unique(kind, return_inverse=True)[1]


def _wanted(shares: Sequence[float], count: int) -> list[int]:
    """Rows of each share; at least one row is left over."""
    wanted, left = [], count - 1
    for share in shares:
        wanted.append(min(max(1, round(share * count)), left) if share else 0)
        left -= wanted[-1]
    return wanted


def _held_out(
    kinds: npt.NDArray[np.intp], free: npt.NDArray[np.bool_], wanted: int, chance: np.random.Generator
) -> npt.NDArray[np.intp]:
    """Places of the rows to hold out from those that are free."""
    everywhere, sizes = np.bincount(kinds), np.bincount(kinds[free], minlength=int(kinds.max()) + 1)
    order = chance.permutation(len(sizes))
    order = order[sizes[order] > 0]
    # Groups with rows in an earlier part are in both parts anyway.
    large = (sizes > 2 * wanted) | (sizes < everywhere) | (len(order) == 1)
    shared = int(sizes[large].sum())
    some = round(wanted * shared / int(sizes.sum()))
    small = order[~large[order]]
    whole = _that_fit(sizes, small.tolist(), wanted - some)
    missing = wanted - some - int(sizes[whole].sum())
    some += min(shared - some, missing)
    if wanted - some > int(sizes[whole].sum()):
        whole += _nearest(sizes, small[~np.isin(small, whole)], wanted - some, whole)
    divided = chance.permutation(np.flatnonzero(free & large[kinds]))[:some]
    return np.concatenate([np.flatnonzero(free & np.isin(kinds, whole)), divided])


def _that_fit(sizes: Sizes, order: list[int], wanted: int) -> list[int]:
    """The first groups in the order that together do not exceed `wanted`."""
    chosen: list[int] = []
    for kind in order:
        if wanted <= 0:
            break
        if sizes[kind] <= wanted:
            chosen.append(kind)
            wanted -= int(sizes[kind])
    return chosen


def _nearest(sizes: Sizes, others: Sizes, wanted: int, chosen: list[int]) -> list[int]:
    """The smallest other group, if it comes nearer to `wanted` and is not the last one."""
    missing = wanted - int(sizes[chosen].sum())
    if len(others) < 2:
        return []
    smallest = int(others[np.argmin(sizes[others])])
    return [smallest] if sizes[smallest] - missing < missing or not chosen else []


def _divided(kinds: npt.NDArray[np.intp], parts: npt.NDArray[np.int8]) -> tuple[int, int]:
    """How many groups are in several parts, and the rows of the largest of these groups."""
    count = int(kinds.max()) + 1
    lowest, highest = np.full(count, 127, dtype=np.int8), np.full(count, -1, dtype=np.int8)
    np.minimum.at(lowest, kinds, parts)
    np.maximum.at(highest, kinds, parts)
    sizes = np.bincount(kinds)[lowest != highest]
    return len(sizes), int(sizes.max(initial=0))
