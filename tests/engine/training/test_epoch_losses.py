"""Whether an epoch got worse: reported if it did, not if chance explains it."""

import random

import pytest

from engine.training.epoch_losses import EpochLosses, Rise


def rises(*epochs: list[float], tokens: int = 800) -> list[Rise | None]:
    """What is found at the end of each epoch of steps with these losses."""
    losses, step, found = EpochLosses(), 0, []
    for number, steps in enumerate(epochs, 1):
        for loss in steps:
            step += 1
            losses.add(loss, tokens, first=step == 1)
        found.append(losses.end(number))
    return found


def test_a_rising_loss_is_reported_every_epoch() -> None:
    assert rises([10.0, 400.0, 9000.0, 3066.0], [3100.0] * 4, [4000.0] * 4, [5.0] * 4) == [
        Rise(3119.0, 10.0, 0), None, Rise(4000.0, 3100.0, 2), None,
    ]  # fmt: skip


def test_a_small_rise_over_many_tokens_is_reported() -> None:
    first, rise = rises([2.0] * 500, [2.2] * 500, tokens=4000)
    assert first is None
    assert rise is not None
    assert (rise.loss, rise.before) == pytest.approx((2.2, 2.0))
    assert rise.since == 1


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(("tokens", "spread"), [(24, 1.0), (800, 0.2), (5000, 0.08)])
def test_ordinary_noise_is_no_rise(seed: int, tokens: int, spread: float) -> None:
    """Losses that do not fall at all, of steps with few and with many label tokens, spread more than real ones."""
    chance = random.Random(seed)
    epochs = [[3.0 + chance.gauss(0, spread) for _ in range(100)] for _ in range(4)]
    assert rises(*epochs, tokens=tokens) == [None] * 4


def test_a_falling_loss_is_no_rise() -> None:
    assert rises([10.0, 8.0, 6.0], [5.0, 4.0], [3.9, 3.9]) == [None, None, None]


def test_losses_of_an_earlier_attempt_count() -> None:
    losses = EpochLosses()
    losses.resume({1: 2.0})
    for _ in range(100):
        losses.add(3.0, 800, first=False)
    assert losses.end(2) == Rise(3.0, 2.0, 1)


def test_an_epoch_without_steps_is_not_judged() -> None:
    losses = EpochLosses()
    losses.resume({1: 2.0})
    assert losses.end(2) is None
    assert 2 not in losses.means


def test_a_run_resumed_in_its_first_epoch_has_nothing_to_compare() -> None:
    losses = EpochLosses()
    losses.add(9.0, 800, first=False)
    assert losses.end(1) is None
