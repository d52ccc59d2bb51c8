from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract.config import RunConfig
from engine.contract.presets import preset
from engine.data import batching
from engine.data.batching import Lengths, Measure

steadily = settings(deadline=None, derandomize=True)
row_lengths = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=40)


def lengths_of(rows: list[tuple[int, int]]) -> Lengths:
    prompts, labels = zip(*rows, strict=True)
    return Lengths(np.array(prompts, dtype=np.int64), np.array(labels, dtype=np.int64))


@given(seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 100), rows=st.integers(1, 500))
@steadily
def test_an_epoch_has_every_row_once_in_a_fixed_order(seed: int, epoch: int, rows: int) -> None:
    order = batching.epoch_order(seed, epoch, rows)
    assert sorted(order.tolist()) == list(range(rows))
    assert order.tolist() == batching.epoch_order(seed, epoch, rows).tolist()


@pytest.mark.parametrize(("one", "other"), [((7, 0), (7, 1)), ((7, 0), (8, 0)), ((0, 1), (1, 0))])
def test_epochs_and_seeds_have_different_orders(one: tuple[int, int], other: tuple[int, int]) -> None:
    assert batching.epoch_order(*one, 50).tolist() != batching.epoch_order(*other, 50).tolist()


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 64, 65, 1000, 4099])
def test_a_computed_order_has_every_row_once(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "HELD_ROWS", 0)
    orders = [batching.epoch_order(seed, epoch, rows).tolist() for seed in (0, 7) for epoch in (0, 1)]
    assert all(sorted(order) == list(range(rows)) for order in orders)
    assert rows < 64 or len({tuple(order) for order in orders}) == 4
    pieces = [batching.epoch_samples(7, 1, rows, start, start + 7) for start in range(0, rows, 7)]
    assert np.concatenate(pieces).tolist() == orders[3]


def test_a_computed_order_is_shuffled() -> None:
    """Steps of 16 rows of two million: their means lie as those of rows drawn at random do."""
    rows, batch = 1 << 21, 16
    means = np.array([batching.epoch_samples(3, 0, rows, s * batch, (s + 1) * batch).mean() for s in range(4096)])
    expected = rows / np.sqrt(12 * batch)  # standard deviation of the mean of this many
    assert abs(means.mean() - rows / 2) < 4 * expected / np.sqrt(len(means))
    assert abs(means.std() / expected - 1) < 4 / np.sqrt(2 * len(means))
    order = batching.epoch_samples(3, 0, rows, 0, 100_000)
    neighbours = np.corrcoef(order[:-1], order[1:])[0, 1]
    assert abs(neighbours) < 4 / np.sqrt(len(order))


@given(rows=st.integers(1, 300), batch=st.integers(1, 50))
@steadily
def test_the_steps_of_an_epoch_share_out_its_rows(rows: int, batch: int) -> None:
    order = batching.epoch_order(1, 0, rows)
    steps = [batching.step_samples(order, step, batch) for step in range(batching.steps_per_epoch(rows, batch))]
    assert np.concatenate(steps).tolist() == order.tolist()
    assert [len(step) for step in steps[:-1]] == [batch] * (len(steps) - 1)
    assert 1 <= len(steps[-1]) <= batch


@given(rows=row_lengths, world=st.integers(1, 5))
@steadily
def test_samples_are_dealt_to_ranks_with_even_tokens(rows: list[tuple[int, int]], world: int) -> None:
    lengths = lengths_of(rows)
    shares = batching.deal(lengths, world)
    assert len(shares) == world
    assert sorted(place for share in shares for place in share) == list(range(len(rows)))
    loads = [int(lengths.total[share].sum()) for share in shares]
    assert max(loads) - min(loads) <= lengths.total.max()


@given(rows=row_lengths, budget=st.integers(1, 400))
@steadily
def test_micro_batches_hold_every_sample_once_within_the_budget(rows: list[tuple[int, int]], budget: int) -> None:
    lengths = lengths_of(rows)
    cuts = batching.pack(range(len(rows)), lengths, budget)
    assert sorted(place for cut in cuts for place in cut) == list(range(len(rows)))
    for cut in cuts:
        size = len(cut) * (max(rows[place][0] for place in cut) + max(rows[place][1] for place in cut))
        assert batching.size_of(cut, lengths, Measure.PARTS) == size
        assert size <= budget or len(cut) == 1


@given(rows=row_lengths, budget=st.integers(1, 400))
@steadily
def test_the_longest_sample_is_in_the_first_micro_batch(rows: list[tuple[int, int]], budget: int) -> None:
    """So that a budget that does not fit into memory fails at once and not hours later."""
    first = batching.pack(range(len(rows)), lengths_of(rows), budget)[0]
    assert max(sum(rows[place]) for place in first) == max(map(sum, rows))


def test_only_the_requested_rows_are_packed() -> None:
    cuts = batching.pack([4, 1], lengths_of([(9, 9)] * 6), 1000)
    assert cuts == [[1, 4]]


def test_samples_of_equal_length_keep_their_order() -> None:
    assert batching.longest_first(lengths_of([(3, 5), (5, 3), (4, 4), (5, 3), (9, 9)])) == [4, 0, 2, 1, 3]


def test_sorting_by_length_leaves_little_padding() -> None:
    rng = np.random.default_rng(0)
    lengths = lengths_of([(int(length), 8) for length in rng.integers(5, 100, 200)])
    padded = sum(batching.size_of(cut, lengths, Measure.PARTS) for cut in batching.pack(range(200), lengths, 512))
    as_they_come = sum(batching.size_of(range(start, start + 5), lengths, Measure.PARTS) for start in range(0, 200, 5))
    assert padded < 1.1 * lengths.total.sum() < as_they_come


def every_micro_batch(lengths: Lengths, config: RunConfig, world: int) -> Iterator[tuple[int, int, int]]:
    """All micro-batches of a run as (rows, longest prompt, longest label)."""
    rows, batch = len(lengths.prompt), config.effective_batch(world)
    for epoch in range(config.epochs):
        order = batching.epoch_order(config.seed, epoch, rows)
        for step in range(batching.steps_per_epoch(rows, batch)):
            samples = batching.step_samples(order, step, batch)
            chosen = Lengths(lengths.prompt[samples], lengths.label[samples])
            for share in batching.deal(chosen, world):
                for places in batching.pack(share, chosen, config.micro_batch_tokens):
                    yield len(places), int(chosen.prompt[places].max()), int(chosen.label[places].max())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=60), st.integers(1, 2))
def test_the_largest_micro_batches_of_a_small_file_are_found(rows: list[tuple[int, int]], world: int) -> None:
    lengths = Lengths(*(np.array([row[part] for row in rows]) for part in (0, 1)))
    config = replace(preset("sft-small").config, micro_batch_tokens=90, epochs=2)
    cut = batching.Partition(config.effective_batch(world), world, config.micro_batch_tokens)
    largest = batching.largest_micro_batches(lengths, cut, config.seed, config.epochs)
    found = [batching.padded_shape(places, lengths) for places in largest]
    run = list(every_micro_batch(lengths, config, world))
    assert set(found) <= set(run)
    weights: list[Callable[[tuple[int, ...]], int]] = [
        lambda shape: shape[0] * (shape[1] + shape[2]),
        lambda shape: shape[0] * shape[2],
        lambda shape: shape[0] * shape[1] ** 2,
    ]
    for weight in weights:
        assert max(map(weight, found)) == max(map(weight, run))
