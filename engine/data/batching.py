"""Which samples make a step, and how a step is cut into micro-batches; pure functions.

The order of an epoch depends on (seed, epoch) alone, so a resumed run computes where it was instead of skipping.
A cut only affects memory and speed: the gradient of a step does not depend on it, except through dropout's draws.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
# Steps whose micro-batches are computed to find the largest: all up to this many rows, then those of the longest rows.
WHOLE_EPOCH_ROWS = 20_000
LONGEST_ROWS = 64
HELD_ROWS = 1 << 20  # rows whose order is held in memory, 8 bytes each
ROUNDS = 8


@dataclass(frozen=True)
class Lengths:
    """Lengths in tokens of some samples, by their index in a list."""

    prompt: Ids
    label: Ids

    @property
    def total(self) -> Ids:
        """Prompt and label tokens of each."""
        return self.prompt + self.label


class Measure(Enum):
    """What counts as the tokens of a micro-batch."""

    PARTS = "parts"  # rows × (longest prompt + longest label): prompts and labels are padded apart
    ROWS = "rows"  # rows × longest row
    SUM = "sum"  # the rows' own tokens: nothing is padded


@dataclass(frozen=True)
class Size:
    """The number of rows of a micro-batch, its longest prompt, label and row in tokens, and all its tokens."""

    rows: int = 0
    prompt: int = 0
    label: int = 0
    longest: int = 0
    total: int = 0

    @classmethod
    def of(cls, rows: Iterable[tuple[int, int]]) -> "Size":
        """The size of rows of these lengths of prompts and labels."""
        size = cls()
        for prompt, label in rows:
            size = size.with_row(prompt, label)
        return size

    def with_row(self, prompt: int, label: int) -> "Size":
        """The size with one more row."""
        both = prompt + label
        longest = max(self.prompt, prompt), max(self.label, label), max(self.longest, both)
        return Size(self.rows + 1, *longest, self.total + both)

    def tokens(self, measure: Measure) -> int:
        """The tokens of the micro-batch by a measure."""
        if measure is Measure.PARTS:
            return self.rows * (self.prompt + self.label)
        return self.rows * self.longest if measure is Measure.ROWS else self.total


def epoch_order(seed: int, epoch: int, rows: int) -> Ids:
    """The sample indices 0 … rows - 1 in the order of `epoch` (counted from 0)."""
    return epoch_samples(seed, epoch, rows, 0, rows)


def epoch_samples(seed: int, epoch: int, rows: int, start: int, end: int) -> Ids:
    """The part from `start` to `end` of an epoch's order.

    With more than a million rows the order is never held: each place is computed by a permutation of numbers.
    """
    if rows <= HELD_ROWS:
        return _shuffled(seed, epoch, rows)[start:end]
    return _permuted(np.arange(start, min(end, rows), dtype=np.uint64), seed, epoch, rows)


@lru_cache(maxsize=2)
def _shuffled(seed: int, epoch: int, rows: int) -> Ids:
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(rows)


def _permuted(places: npt.NDArray[np.uint64], seed: int, epoch: int, rows: int) -> Ids:
    """A Feistel network over the smallest even number of bits that holds `rows`, walked until it lands below `rows`.

    After Luby and Rackoff (1988), and Black and Rogaway's cycle walking (2002).
    """
    half = np.uint64(-(-(rows - 1).bit_length() // 2))
    low = np.uint64((1 << int(half)) - 1)
    keys = np.random.Generator(np.random.Philox(key=[seed, epoch])).integers(0, 1 << 64, ROUNDS, dtype=np.uint64)
    found = places.copy()
    outside = np.ones(len(found), dtype=bool)
    while outside.any():
        left, right = found[outside] >> half, found[outside] & low
        for key in keys:
            left, right = right, left ^ (_mixed(right + key) & low)
        found[outside] = (left << half) | right
        outside = found >= rows
    return found.astype(np.int64)


def _mixed(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Every bit of the result depends on every bit of a word: the finalizer of SplitMix64 (Steele and others, 2014)."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def steps_per_epoch(rows: int, effective_batch: int) -> int:
    """Optimizer steps of one epoch; the last may be short, and counts as a whole step."""
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
    """Places by falling length, label first among equals, then by place, so that the order is unique."""
    n = len(lengths.prompt)
    return [int(i) for i in np.lexsort((np.arange(n), -lengths.label, -lengths.total))]


def pack(places: Sequence[int], lengths: Lengths, budget: int, measure: Measure = Measure.PARTS) -> list[list[int]]:
    """Places cut into micro-batches whose size by `measure` stays within `budget` tokens.

    A sample longer than the budget gets its own micro-batch. The longest come first, so that an excessive budget fails
    at the first micro-batch.
    """
    chosen = set(places)
    batches: list[list[int]] = []
    size = Size()
    for place in (p for p in longest_first(lengths) if p in chosen):
        alone = Size().with_row(int(lengths.prompt[place]), int(lengths.label[place]))
        grown = size.with_row(alone.prompt, alone.label)
        if batches and grown.tokens(measure) <= budget:
            batches[-1].append(place)
            size = grown
        else:
            batches.append([place])
            size = alone
    return batches


def size_of(batch: Sequence[int], lengths: Lengths, measure: Measure) -> int:
    """Tokens of a micro-batch by a measure."""
    return Size.of((int(lengths.prompt[place]), int(lengths.label[place])) for place in batch).tokens(measure)


def padded_shape(batch: Sequence[int], lengths: Lengths) -> tuple[int, int, int]:
    """Rows of a micro-batch, and its longest prompt and label in tokens."""
    chosen = list(batch)
    return len(chosen), int(lengths.prompt[chosen].max()), int(lengths.label[chosen].max())


def packed_shape(batch: Sequence[int], lengths: Lengths) -> tuple[int, int, int]:
    """Rows of a micro-batch, and the root mean squares of their prompts and labels, rounded up.

    This many rows of that length have as many attention scores as the batch, and about as many tokens.
    """
    chosen = list(batch)
    prompt, label = (float(np.sqrt(np.mean(part[chosen] ** 2.0))) for part in (lengths.prompt, lengths.label))
    return len(chosen), math.ceil(prompt), math.ceil(label)


@dataclass(frozen=True)
class Partition:
    """How steps are cut: rows of a step over all ranks, ranks, tokens of a micro-batch, and what counts as these."""

    effective_batch: int
    world: int
    budget: int
    measure: Measure = Measure.PARTS


def largest_micro_batches(lengths: Lengths, cut: Partition, seed: int, epochs: int) -> list[list[int]]:
    """The micro-batches of all epochs that may need the most memory, as places, the largest by padded size first.

    Which of them does depends on the model: each is the largest by one measure of tokens or attention scores.
    For large files only the steps with the longest rows are examined.
    """
    rows = len(lengths.prompt)
    best: dict[int, tuple[int, list[int]]] = {}
    keys = (lengths.prompt, lengths.label, lengths.total)
    longest = list({int(i) for key in keys for i in np.argsort(key)[-LONGEST_ROWS:]})
    for epoch in range(epochs):
        order = epoch_order(seed, epoch, rows)
        steps = range(steps_per_epoch(rows, cut.effective_batch))
        if rows > WHOLE_EPOCH_ROWS or epoch:
            places = np.flatnonzero(np.isin(order, longest))
            steps = sorted({int(place) // cut.effective_batch for place in places})  # type: ignore[assignment]
        for step in steps:
            _weigh(step_samples(order, step, cut.effective_batch), lengths, cut, best)
    return [list(places) for places in dict.fromkeys(tuple(places) for _, places in sorted(best.values())[::-1])]


def _weigh(samples: Ids, lengths: Lengths, cut: Partition, best: dict[int, tuple[int, list[int]]]) -> None:
    chosen = Lengths(lengths.prompt[samples], lengths.label[samples])
    for share in deal(chosen, cut.world):
        for places in pack(share, chosen, cut.budget, cut.measure):
            for key, weight in enumerate(_weights(places, chosen, cut.measure)):
                if weight > best.get(key, (-1, []))[0]:
                    best[key] = (weight, [int(samples[place]) for place in places])


def _weights(places: list[int], lengths: Lengths, measure: Measure) -> tuple[int, ...]:
    """Measures of a micro-batch by which it may be the one that needs the most memory."""
    n, p, q = padded_shape(places, lengths)
    if measure is Measure.PARTS:
        return n * (p + q), n * q, n * q * (p + q), n * p * p
    size, longest = size_of(places, lengths, measure), int(lengths.total[places].max())
    return size, size * longest, int(lengths.label[places].sum())
