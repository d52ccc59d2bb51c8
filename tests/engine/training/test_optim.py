import itertools
import math

import pytest
import torch
from torch import nn

from engine.contract.config import RunConfig
from engine.cpu import placement
from engine.training import optim

CASES = [(0, 1), (0, 10), (3, 10), (100, 10), (1, 4), (100, 1000), (300, 1000), (5, 7)]


def curve(warmup_steps: int, steps: int) -> list[float]:
    config = RunConfig(learn_rate=2e-4, div_factor=10, warmup_steps=warmup_steps)
    return [optim.learning_rate(config, step, steps) for step in range(steps)]


@pytest.mark.parametrize(("warmup_steps", "steps"), [case for case in CASES if case[0]])
def test_the_first_step_has_learn_rate(warmup_steps: int, steps: int) -> None:
    assert curve(warmup_steps, steps)[0] == 2e-4


@pytest.mark.parametrize(("warmup_steps", "steps"), CASES)
def test_the_peak_ends_the_warm_up(warmup_steps: int, steps: int) -> None:
    rates = curve(warmup_steps, steps)
    assert rates.index(max(rates)) == min(warmup_steps, math.floor(0.3 * steps))
    assert max(rates) == pytest.approx(2e-3, rel=1e-12)


@pytest.mark.parametrize(("warmup_steps", "steps"), CASES)
def test_the_rate_rises_evenly_then_falls_and_never_reaches_zero(warmup_steps: int, steps: int) -> None:
    rates = curve(warmup_steps, steps)
    peak = rates.index(max(rates))
    changes = [after - before for before, after in itertools.pairwise(rates)]
    assert changes[:peak] == pytest.approx([1.8e-3 / max(peak, 1)] * peak)
    assert all(change < 0 for change in changes[peak:])
    assert min(rates) > 0


def test_the_fall_is_half_a_cosine() -> None:
    rates = curve(0, 100)
    assert rates[50] == pytest.approx(1e-3)
    assert rates[25] == pytest.approx(1e-3 * (1 + math.sqrt(0.5)))
    assert rates[75] == pytest.approx(1e-3 * (1 - math.sqrt(0.5)))


@pytest.mark.parametrize(("name", "kind"), [("adafactor", torch.optim.Adafactor), ("adamw", torch.optim.AdamW)])
def test_the_optimizer_is_the_one_named(name: str, kind: type[torch.optim.Optimizer]) -> None:
    optimizer = optim.make_optimizer(RunConfig(optimizer=name, weight_decay=0.25), nn.Linear(2, 2).parameters())
    assert isinstance(optimizer, kind)
    assert optimizer.param_groups[0]["weight_decay"] == 0.25


def stepped(name: str, model: nn.Linear, optimizer: torch.optim.Optimizer | None = None) -> torch.optim.Optimizer:
    optimizer = optimizer or optim.make_optimizer(RunConfig(optimizer=name), model.parameters())
    optim.set_learning_rate(optimizer, 0.01)
    model(torch.arange(12.0).view(4, 3)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    return optimizer


def test_adamw_in_pieces_is_torchs_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optim, "PIECE", 7)
    torch.manual_seed(1)
    first = [nn.Parameter(torch.randn(shape)) for shape in ((5, 9), (4,), (3, 7), ())]
    first[2].data = torch.randn(7, 3).t()  # not end to end
    second = [nn.Parameter(parameter.detach().clone()) for parameter in first]
    ours, theirs = (
        kind(some, lr=0.1, weight_decay=0.3) for kind, some in ((optim.AdamW, first), (torch.optim.AdamW, second))
    )
    for _ in range(3):
        for one, other in zip(first, second, strict=True):
            one.grad = torch.randn(one.shape)
            other.grad = one.grad.clone()
        ours.step()
        theirs.step()
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    assert all(
        torch.equal(ours.state[one][key], theirs.state[other][key])
        for one, other in zip(first, second, strict=True)
        for key in theirs.state[other]
    )


def test_adamw_on_a_device_makes_the_update_of_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """By one kernel, whose counters of steps are where the parameters are."""
    torch.manual_seed(2)
    first = [nn.Parameter(torch.randn(shape)) for shape in ((5, 9), (4,), ())]
    second = [nn.Parameter(parameter.detach().clone()) for parameter in first]
    config = RunConfig(optimizer="adamw", learn_rate=0.1, weight_decay=0.3)
    here = optim.make_optimizer(config, first)
    monkeypatch.setattr(placement, "on_host", lambda _: False)
    there = optim.make_optimizer(config, second)
    assert (here.param_groups[0]["fused"], there.param_groups[0]["fused"]) == (None, True)
    for _ in range(3):
        for one, other in zip(first, second, strict=True):
            one.grad = torch.randn(one.shape)
            other.grad = one.grad.clone()
        here.step()
        there.step()
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(dict(here.state[one]), dict(there.state[other]), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("fused", "place"), [(None, "cpu"), (True, "meta")])
def test_adamws_counters_are_restored_where_it_reads_them(fused: bool | None, place: str) -> None:
    parameter = nn.Parameter(torch.empty(2, device="meta"))  # stands for a GPU
    optimizer = optim.AdamW([parameter], fused=fused)
    saved = {"step:a": torch.tensor(3.0), "exp_avg:a": torch.ones(2)}
    optim.load_state_tensors(optimizer, {"a": parameter}, saved)
    assert optimizer.state[parameter]["step"].device.type == place
    assert optimizer.state[parameter]["exp_avg"].device.type == "meta"


@pytest.mark.parametrize("on_host", [True, False], ids=["here", "on a device"])
@pytest.mark.parametrize("name", ["adafactor", "adamw"])
def test_an_optimizer_continues_exactly_from_its_state(
    monkeypatch: pytest.MonkeyPatch, name: str, on_host: bool
) -> None:
    monkeypatch.setattr(placement, "on_host", lambda _: on_host)
    model = nn.Linear(3, 2)
    optimizer = stepped(name, model)
    other = nn.Linear(3, 2)
    other.load_state_dict(model.state_dict())
    resumed = optim.make_optimizer(RunConfig(optimizer=name), other.parameters())
    named = {id(parameter): name for name, parameter in model.named_parameters()}
    optim.load_state_tensors(resumed, dict(other.named_parameters()), optim.state_tensors(optimizer, named))
    stepped(name, model, optimizer)
    stepped(name, other, resumed)
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_the_learning_rate_is_set_for_every_group() -> None:
    first, second = nn.Linear(1, 1), nn.Linear(1, 1)
    optimizer = torch.optim.AdamW([{"params": first.parameters()}, {"params": second.parameters()}])
    optim.set_learning_rate(optimizer, 0.125)
    assert [group["lr"] for group in optimizer.param_groups] == [0.125, 0.125]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("scale", [1.0, 1e-4, 1e-12])  # the last so small that torch clamps the second moment
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adafactor_makes_the_updates_of_torch(scale: float, weight_decay: float) -> None:
    """Matrices and vectors, over several steps, and the state that goes into checkpoints."""
    ours, theirs = (
        [nn.Parameter(torch.arange(1.0, 1 + math.prod(shape)).view(shape).sin()) for shape in SHAPES] for _ in "ab"
    )
    mine = optim.Adafactor(ours, lr=1e-2, weight_decay=weight_decay)
    plain = torch.optim.Adafactor(theirs, lr=1e-2, weight_decay=weight_decay)
    for step in range(5):
        torch.manual_seed(step)
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn_like(one) * scale
            other.grad = one.grad.clone()
        mine.step()
        plain.step()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(mine.state[one], plain.state[other], rtol=1e-5, atol=0)


SHAPES = [(6, 10), (10, 6), (7,), (1, 4)]
