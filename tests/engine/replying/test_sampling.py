"""The choice of the next token."""

from collections import Counter

import pytest
import torch

from engine.contract.conversing import Sampling
from engine.replying.sampling import Chooser

LOGITS = torch.tensor([0.5, 2.0, 1.0, 2.0, -3.0]).log_softmax(0)


def drawn(sampling: Sampling, count: int = 4000) -> Counter[int]:
    """How often each token is chosen."""
    choose = Chooser(sampling)
    return Counter(choose(LOGITS) for _ in range(count))


def test_without_a_temperature_the_first_of_the_likeliest_is_chosen() -> None:
    assert drawn(Sampling()) == {1: 4000}


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_are_drawn_by_their_probability_at_a_temperature(temperature: float) -> None:
    found = drawn(Sampling(temperature))
    for token, chance in enumerate((LOGITS / temperature).softmax(0).tolist()):
        assert found[token] / 4000 == pytest.approx(chance, abs=0.04)


@pytest.mark.parametrize(
    ("top_p", "left"), [(0.0, {1}), (0.3, {1}), (0.6, {1, 3}), (0.8, {1, 2, 3}), (1.0, set(range(5)))]
)
def test_only_the_likeliest_tokens_are_drawn_from(top_p: float, left: set[int]) -> None:
    assert set(drawn(Sampling(2.0, top_p))) == left


def test_a_seed_repeats_its_draws() -> None:
    def draws(seed: int) -> list[int]:
        choose = Chooser(Sampling(1.0, seed=seed))
        return [choose(LOGITS) for _ in range(50)]

    assert draws(1) == draws(1) != draws(2)


@pytest.mark.parametrize("temperature", [1e-6, 100.0])
def test_extreme_temperatures_and_logits_give_a_token(temperature: float) -> None:
    choose = Chooser(Sampling(temperature, 0.5))
    assert choose(torch.tensor([1e30, -1e30, 0.0, float("-inf")])) == 0
