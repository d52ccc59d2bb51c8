import math

import numpy as np
import pytest
import torch

from engine.cpu.dropout import BLOCK, LEVELS, Draw, Kept, RandomBits, Rate, drop_, random_words

KINDS = [torch.bfloat16, torch.float16, torch.float32, torch.float64]
RATES = [0.05, 0.1, 0.3, 0.5, 0.9]


def seeded(seed: int) -> RandomBits:
    torch.manual_seed(seed)
    source = RandomBits()
    source.seed()
    return source


def drawn(probability: float, *shapes: tuple[int, ...], seed: int = 0) -> Draw:
    found = seeded(seed).draw(Rate.of(probability), *shapes)
    assert found is not None
    return found


def kept(probability: float, *shape: int, seed: int = 0) -> Kept:
    found = seeded(seed).kept(Rate.of(probability), *shape)
    assert found is not None
    return found


@pytest.mark.parametrize("probability", [*RATES, 1 / 3, 1e-6, 0.0])
def test_the_rate_is_rounded_to_the_nearest_level(probability: float) -> None:
    assert abs(Rate.of(probability).dropped / LEVELS - probability) <= 0.5 / LEVELS


@pytest.mark.parametrize("probability", [*RATES, 1 / 3, 0.0])
def test_the_scale_matches_the_rounded_rate(probability: float) -> None:
    rate = Rate.of(probability)
    assert rate.scale * (LEVELS - rate.dropped) == pytest.approx(LEVELS, rel=1e-15)


def test_a_half_and_a_quarter_are_exact() -> None:
    assert (Rate.of(0.5).scale, Rate.of(0.25).scale, Rate.of(0.0).scale) == (2.0, 4 / 3, 1.0)


@pytest.mark.parametrize("probability", [1.0, 1.5, 1 - 1e-9])
def test_a_rate_that_leaves_nothing_is_refused(probability: float) -> None:
    with pytest.raises(ValueError, match="leaves nothing"):
        Rate.of(probability)


@pytest.mark.parametrize("probability", RATES)
def test_the_share_kept_is_that_of_independent_draws(probability: float) -> None:
    """Within five standard deviations of the binomial, which one seed in two million would leave."""
    count, stays = 1_000_000, 1 - Rate.of(probability).dropped / LEVELS
    share = float(kept(probability, count).mean())
    assert abs(share - stays) <= 5 * math.sqrt(stays * (1 - stays) / count)


@pytest.mark.parametrize("lag", [1, 2, 3, 4, 5, 64])
def test_elements_are_independent(lag: int) -> None:
    """Four elements share a random word: the correlation of neighbours is that of independent draws."""
    count = 1_000_000
    stays = kept(0.3, count + lag).astype(np.float64) - 0.7
    correlation = float((stays[lag:] * stays[:-lag]).mean()) / (0.3 * 0.7)
    assert abs(correlation) <= 5 / math.sqrt(count)


@pytest.mark.parametrize("shape", [(1,), (3,), (4,), (5,), (7, 3), (2, 3, 5), (1, 1, 1)])
def test_any_shape_can_be_asked_for(shape: tuple[int, ...]) -> None:
    assert kept(0.5, *shape).shape == shape


def test_random_words_are_those_of_splitmix64() -> None:
    """As published with the generator's C code, for this seed."""
    known = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    assert random_words(1234567, 0, 5).tolist() == known


@pytest.mark.parametrize("seed", [0, (1 << 62) - 1])
def test_a_random_word_depends_only_on_its_index(seed: int) -> None:
    whole = random_words(seed, 0, 2 * BLOCK + 7)
    for first in (1, BLOCK - 1, BLOCK, BLOCK + 5):
        assert np.array_equal(random_words(seed, first, BLOCK + 2), whole[first : first + BLOCK + 2])


@pytest.mark.parametrize("width", [1, 3, 4, 5])
def test_tensors_drawn_together_use_consecutive_words(width: int) -> None:
    source, rate = seeded(0), Rate.of(0.5)
    apart = [source.kept(rate, *shape) for shape in ((2, 3, width), (5, width))]
    together = kept(0.5, 11, width)
    assert [None if part is None else part.tolist() for part in apart] == [
        together[:6].reshape(2, 3, width).tolist(),
        together[6:].tolist(),
    ]


def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    first, again, other = (kept(0.5, 1000, seed=seed) for seed in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_later_draws_of_a_step_differ() -> None:
    source, rate = seeded(0), Rate.of(0.5)
    first, second = source.kept(rate, 1000), source.kept(rate, 1000)
    assert first is not None
    assert second is not None
    assert not np.array_equal(first, second)


def test_the_next_step_draws_other_bits() -> None:
    source, rate = seeded(0), Rate.of(0.5)
    first = source.kept(rate, 1000)
    source.seed()
    second = source.kept(rate, 1000)
    assert first is not None
    assert second is not None
    assert not np.array_equal(first, second)


def test_without_dropout_nothing_is_drawn() -> None:
    source, other = seeded(0), seeded(0)
    assert source.kept(Rate.of(0.0), 1000) is None
    ours, theirs = (each.kept(Rate.of(0.5), 1000) for each in (source, other))
    assert ours is not None
    assert theirs is not None
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_dropped_is_zero_and_the_rest_is_untouched(kind: torch.dtype) -> None:
    values = torch.randn(33, 7, dtype=torch.float64).to(kind)
    draw = drawn(0.3, (33, 7))
    expected = torch.where(torch.from_numpy(draw.kept(33, 7)), values, torch.zeros((), dtype=kind))
    found = values.clone()
    assert drop_(found, draw) is found
    assert torch.equal(found, expected)
    assert 0 < int((found == 0).sum()) < found.numel()


@pytest.mark.parametrize("kind", KINDS)
def test_where_nothing_is_dropped_nothing_changes(kind: torch.dtype) -> None:
    values = torch.randn(5, dtype=torch.float64).to(kind)
    assert torch.equal(drop_(values.clone(), None), values)


@pytest.mark.parametrize("kind", KINDS)
def test_a_dropped_nan_becomes_zero(kind: torch.dtype) -> None:
    values = torch.tensor([math.inf, -math.inf, math.nan, 2.0], dtype=kind)
    draws = (Draw(LEVELS * 3 // 4, seed, 0) for seed in range(1000))
    draw = next(draw for draw in draws if draw.kept(4).tolist() == [False, False, False, True])
    assert drop_(values, draw).tolist() == [0.0, 0.0, 0.0, 2.0]


@pytest.mark.parametrize("probability", RATES)
def test_the_mean_is_preserved(probability: float) -> None:
    count, rate = 1_000_000, Rate.of(probability)
    ones = torch.ones(count, dtype=torch.float64)
    mean = float(drop_(ones, drawn(probability, (count,))).mean()) * rate.scale
    spread = math.sqrt((rate.scale - 1) / count)  # of the mean of ones that stay, scaled up
    assert abs(mean - 1) <= 5 * spread
