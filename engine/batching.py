"""Which samples make a step, and how a step is cut into micro-batches; pure functions.

The order of an epoch depends on (seed, epoch) alone, so a resumed run computes where it was instead of skipping.
A cut is a matter of memory and speed: the gradient of a step does not depend on it, but for what dropout draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Lengths:
    """Lengths in tokens of some samples, by their place in a list."""

    prompt: Ids
    label: Ids

    @property
    def total(self) -> Ids:
        """Prompt and label tokens of each."""
        return self.prompt + self.label


def epoch_order(seed: int, epoch: int, rows: int) -> Ids:
    """The sample indices 0 … rows - 1 in the order of `epoch` (counted from 0)."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(rows)


def steps_per_epoch(rows: int, effective_batch: int) -> int:
    """Optimizer steps of one epoch; the last may be short, and counts like any other."""
    return -(-rows // effective_batch)


def step_samples(order: Ids, step_in_epoch: int, effective_batch: int) -> Ids:
    """The sample indices of one step (counted from 0 within its epoch)."""
    return order[step_in_epoch * effective_batch : (step_in_epoch + 1) * effective_batch]


def deal(lengths: Lengths, world: int) -> list[list[int]]:
    """Places 0 … n - 1 dealt to `world` ranks: longest first, each to the rank with the fewest tokens so far."""
    total = lengths.total
    loads = [0] * world
    shares: list[list[int]] = [[] for _ in range(world)]
    for place in longest_first(lengths):
        rank = loads.index(min(loads))
        shares[rank].append(place)
        loads[rank] += int(total[place])
    return shares


def longest_first(lengths: Lengths) -> list[int]:
    """Places by falling length, label first among equals, then by place, so that the order is one and only one."""
    n = len(lengths.prompt)
    return [int(i) for i in np.lexsort((np.arange(n), -lengths.label, -lengths.total))]


def pack(places: Sequence[int], lengths: Lengths, budget: int) -> list[list[int]]:
    """Places cut into micro-batches whose padded size stays within `budget` tokens.

    The padded size is rows × (longest prompt + longest label). A sample longer than the budget goes alone. The
    longest come first, so that a budget too large fails at the first micro-batch.
    """
    chosen = set(places)
    batches: list[list[int]] = []
    widest_prompt = widest_label = 0
    for place in (p for p in longest_first(lengths) if p in chosen):
        prompt = max(widest_prompt, int(lengths.prompt[place]))
        label = max(widest_label, int(lengths.label[place]))
        if batches and (len(batches[-1]) + 1) * (prompt + label) <= budget:
            batches[-1].append(place)
            widest_prompt, widest_label = prompt, label
        else:
            batches.append([place])
            widest_prompt, widest_label = int(lengths.prompt[place]), int(lengths.label[place])
    return batches


def padded_size(batch: Sequence[int], lengths: Lengths) -> int:
    """Tokens of a micro-batch, padding included."""
    chosen = list(batch)
    return len(chosen) * int(lengths.prompt[chosen].max() + lengths.label[chosen].max())
