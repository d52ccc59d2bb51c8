"""The share that was asked for is held out, whatever the rows are, and equal prompts stay on one side."""

from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.data.importing.split import TRAIN, UNUSED, Split, split

Sizes = list[int]


def rows_of(sizes: Sizes) -> npt.NDArray[np.uint64]:
    """The prompt's hash of each row, where prompts come so often; in an order that mixes them."""
    rows = np.repeat(np.arange(len(sizes), dtype=np.uint64) * 2654435761 % 1000003, sizes)
    return np.random.default_rng(5).permutation(rows)


def split_of(sizes: Sizes, *shares: float, seed: int = 1, sample: int = 0) -> Split:
    """The split of rows whose groups are their prompts."""
    rows = rows_of(sizes)
    return split(rows, rows, seed, sample, shares)


SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=60) | st.tuples(
    st.integers(1, 400), st.lists(st.integers(1, 3), max_size=60)
).map(lambda both: [both[0], *both[1]])


@given(sizes=SIZES, valid=st.floats(0.01, 0.5), test=st.floats(0, 0.4), seed=st.integers(0, 99))
def test_each_share_is_met_within_one_group(sizes: Sizes, valid: float, test: float, seed: int) -> None:
    found = split_of(sizes, valid, test, seed=seed)
    total = sum(sizes)
    assert found.rows(TRAIN) + found.rows(1) + found.rows(2) == total
    assert found.rows(TRAIN) >= 1
    for part, share in enumerate((valid, test), 1):
        wanted = round(share * total)
        largest_whole = max((size for size in sizes if size <= 2 * max(wanted, 1)), default=1)
        assert abs(found.rows(part) - wanted) <= max(1, largest_whole)


@given(sizes=SIZES, valid=st.floats(0.01, 0.5), seed=st.integers(0, 99))
def test_a_prompt_is_divided_only_above_twice_the_share(sizes: Sizes, valid: float, seed: int) -> None:
    rows, found = rows_of(sizes), split_of(sizes, valid, seed=seed)
    held, kept = (Counter(rows[found.parts == part].tolist()) for part in (1, TRAIN))
    both = held.keys() & kept.keys()
    wanted = max(1, round(valid * sum(sizes)))
    assert all(held[prompt] + kept[prompt] > 2 * wanted for prompt in both) or len(sizes) == 1
    assert all(count <= 2 * wanted for count in held.values())
    assert (found.divided, found.largest) == (len(both), max((held[p] + kept[p] for p in both), default=0))


@given(sizes=SIZES, share=st.floats(0, 0.9), seed=st.integers(0, 99), sample=st.integers(0, 50))
def test_the_same_seed_gives_the_same_split(sizes: Sizes, share: float, seed: int, sample: int) -> None:
    first, again = (split_of(sizes, share, share / 10, seed=seed, sample=sample) for _ in range(2))
    assert first.parts.tolist() == again.parts.tolist()
    assert int((first.parts != UNUSED).sum()) == min(sample or sum(sizes), sum(sizes))


@pytest.mark.parametrize("seed", [23333, 1, 2, 3, 4])
@pytest.mark.parametrize(
    ("sizes", "divided"),
    [
        ([100] + [1] * 100, 1),
        ([100] * 3 + [1] * 700, 0),
        ([900] + [1] * 100, 1),
        ([50] * 10 + [1] * 500, 0),
        ([1000], 1),
        ([1] * 1000, 0),
        ([250] * 4, 4),
    ],
)
def test_one_frequent_prompt_does_not_fill_the_validation_file(sizes: Sizes, divided: int, seed: int) -> None:
    found = split_of(sizes, 0.1, seed=seed)
    prompts = Counter(rows_of(sizes)[found.parts == 1].tolist())
    assert found.rows(1) == round(0.1 * sum(sizes))
    assert found.divided == divided
    assert max(prompts.values()) < found.rows(1) or len(sizes) == 1


def test_a_frequent_prompt_has_the_same_share_on_both_sides() -> None:
    rows, found = rows_of([900] + [1] * 100), split_of([900] + [1] * 100, 0.1)
    assert int((rows[found.parts == 1] == 0).sum()) == 90


@pytest.mark.parametrize(
    ("sizes", "parts"),
    [([1], (1, 0, 0)), ([2], (1, 1, 0)), ([1, 1], (1, 1, 0)), ([1, 1, 1], (1, 1, 1)), ([], (0, 0, 0))],
)
def test_a_few_rows_leave_one_to_train_on(sizes: Sizes, parts: tuple[int, ...]) -> None:
    found = split_of(sizes, 0.1, 0.05)
    assert tuple(map(found.rows, range(3))) == parts


def test_a_row_is_left_to_train_on_after_three_shares() -> None:
    found = split_of([1, 3, 3], 0.375, 0.375, seed=3)
    assert [found.rows(part) for part in range(3)] == [1, 4, 2]


def test_rows_of_a_conversation_or_prompt_stay_together() -> None:
    """Ten conversations of ten rows; two of them have a prompt in common."""
    groups = np.repeat(np.arange(10, dtype=np.uint64), 10)
    prompts = np.arange(100, dtype=np.uint64)
    prompts[15] = prompts[3]
    for seed in range(20):
        found = split(prompts, groups, seed, 0, [0.2])
        held = set(groups[found.parts == 1].tolist())
        assert not held & set(groups[found.parts == TRAIN].tolist())
        assert len(held & {0, 1}) != 1
        assert found.rows(1) == 20
