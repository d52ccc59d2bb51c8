"""Adafactor by stacks next to torch's own, on the processor."""

import math

import pytest
import torch
from torch import Tensor, nn

from engine.cpu import placement
from engine.training import optim, stacked_updates

SHAPES = [(6, 10), (10, 6), (6, 10), (7,), (1, 4), (6, 10), (7,), (), (2, 3, 4)]


def drawn(seed: int) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def gradients(step: int, scale: float) -> list[Tensor]:
    generator = torch.Generator().manual_seed(step)
    return [torch.randn(shape, generator=generator) * scale for shape in SHAPES]


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "on_host", lambda _: False)


@pytest.mark.parametrize("scale", [1.0, 1e-4, 1e-12])  # the last so small that the second moment is clamped
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("most", [1 << 24, 130, 1], ids=["one stack", "two at a time", "each alone"])
def test_stacks_get_the_updates_of_torch(
    monkeypatch: pytest.MonkeyPatch, scale: float, weight_decay: float, most: int
) -> None:
    monkeypatch.setattr(stacked_updates, "STACKED", most)
    ours, theirs = drawn(1), drawn(1)
    mine = optim.Adafactor(ours, lr=1e-2, weight_decay=weight_decay)
    plain = torch.optim.Adafactor(theirs, lr=1e-2, weight_decay=weight_decay)
    for step in range(5):
        for some in (ours, theirs):
            for place, (one, gradient) in enumerate(zip(some, gradients(step, scale), strict=True)):
                one.grad = None if (step, place) == (2, 2) else gradient  # one of a stack misses an update
        mine.step()
        plain.step()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)
        assert mine.state[one].keys() == plain.state[other].keys()
        torch.testing.assert_close(dict(mine.state[one]), dict(plain.state[other]), rtol=1e-5, atol=0)


def test_a_step_on_a_device_is_one_on_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """So a run that began on one may continue on the other."""
    ours, theirs = drawn(2), drawn(2)
    mine, host = (optim.Adafactor(some, lr=1e-2, weight_decay=0.1) for some in (ours, theirs))
    for step in range(4):
        for on_host, some, optimizer in ((False, ours, mine), (True, theirs, host)):
            monkeypatch.setattr(placement, "on_host", lambda _, on_host=on_host: on_host)
            for one, gradient in zip(some, gradients(step, 1.0), strict=True):
                one.grad = gradient
            optimizer.step()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_a_stack_is_no_larger_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacked_updates, "STACKED", 130)
    sizes: list[int] = []
    plain = torch.stack

    def stack(tensors: list[Tensor], *more: int) -> Tensor:
        sizes.append(math.prod((len(tensors), *tensors[0].shape)))
        return plain(tensors, *more)

    monkeypatch.setattr(torch, "stack", stack)
    parameters = drawn(3)
    optimizer = optim.Adafactor(parameters, lr=1e-2)
    for one, gradient in zip(parameters, gradients(0, 1.0), strict=True):
        one.grad = gradient
    optimizer.step()
    assert max(sizes) == 120  # two of the three matrices of 60
