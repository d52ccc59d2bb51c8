import os
import random
from collections.abc import Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from engine.contract.messages import BusyError, InputError
from engine.process import gradient_sums, meeting, world
from engine.process.device_errors import connection_broke
from engine.process.world import World, seed_step

if TYPE_CHECKING:
    from tests.engine.conftest import TwoRanks

Draws = tuple[float, float, float]


def draws(seed: int, step: int, rank: int) -> Draws:
    """What torch, numpy and random give next."""
    seed_step(seed, step, rank)
    return torch.rand(()).item(), float(np.random.random()), random.random()


def test_a_step_draws_the_same_whenever_it_is_computed() -> None:
    first = draws(5, 3, 1)
    torch.rand(7), np.random.random(7), random.random()
    assert draws(5, 3, 1) == first


@pytest.mark.parametrize("other", [(6, 3, 1), (5, 4, 1), (5, 3, 0), (3, 5, 1), (5, 1, 3)])
def test_seeds_steps_and_ranks_draw_different_numbers(other: tuple[int, int, int]) -> None:
    assert not set(draws(5, 3, 1)) & set(draws(*other))


def test_one_process_is_a_world_of_one(cpu_world: World) -> None:
    assert (cpu_world.size, cpu_world.rank, cpu_world.is_main, cpu_world.is_local_main) == (1, 0, True, True)
    assert cpu_world.device == torch.device("cpu")
    assert cpu_world.sum([1.5, 2.0]) == [1.5, 2.0]
    assert cpu_world.gather(["a"]) == ["a"]
    assert cpu_world.from_main({"a": 1}) == {"a": 1}


def test_two_ranks_find_a_world_of_two(two_ranks: "TwoRanks") -> None:
    assert [found["size"] for found in two_ranks.found] == [2, 2]


def test_one_process_does_not_change_its_gradients(cpu_world: World) -> None:
    layer = nn.Linear(2, 2)
    layer(torch.ones(2)).sum().backward()
    before = [parameter.grad.clone() for parameter in layer.parameters() if parameter.grad is not None]
    cpu_world.sum_gradients(layer.parameters())
    assert all(
        torch.equal(p.grad, old) for p, old in zip(layer.parameters(), before, strict=True) if p.grad is not None
    )


@pytest.mark.parametrize("elements", [1, 7, 10, 1000])
def test_gradients_are_summed_whatever_the_size_of_a_bucket(
    monkeypatch: pytest.MonkeyPatch, cpu_world: World, elements: int
) -> None:
    """With a second rank that has the same gradients, and none for the last layer."""
    layers = [nn.Linear(2, 3), nn.Linear(3, 2), nn.Linear(2, 2)]
    parameters = [parameter for layer in layers for parameter in layer.parameters()]
    for number, parameter in enumerate(parameters[:-2]):
        parameter.grad = torch.full_like(parameter, number + 1.0)
    monkeypatch.setattr(cpu_world, "size", 2)
    monkeypatch.setattr(gradient_sums, "BUCKET_ELEMENTS", elements)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda flat: flat.mul_(2))
    cpu_world.sum_gradients(parameters)
    sums = [parameter.grad for parameter in parameters]
    expected = [2.0, 4.0, 6.0, 8.0, 0.0, 0.0]
    assert all(
        found is not None and torch.equal(found, torch.full_like(found, value))
        for found, value in zip(sums, expected, strict=True)
    )


@pytest.mark.parametrize("promised", [0, 1])
def test_a_world_of_the_planned_size_is_accepted(cpu_world: World, promised: int) -> None:
    cpu_world.check(promised, "")


def test_a_world_of_another_size_is_refused(cpu_world: World) -> None:
    with pytest.raises(InputError) as refused:
        cpu_world.check(2, "")
    assert refused.value.message.code == "world_promised"
    assert (refused.value.message.args["promised"], refused.value.message.args["found"]) == (2, 1)


def test_a_world_that_differs_from_its_launch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    lonely = World()
    monkeypatch.setattr(lonely, "launched", 2)
    with pytest.raises(InputError) as refused:
        lonely.check(0, "accelerate launch --cpu")
    assert refused.value.message.code == "world_mismatch"
    assert "accelerate launch --cpu" in refused.value.message.fix()


@pytest.mark.parametrize(("said", "refused"), [("true", True), ("1", True), ("false", False), ("", False)])
def test_a_launch_with_deepspeed_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, said: str, refused: bool) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", said)
    launched = World()
    if not refused:
        return launched.check(0, "")
    with pytest.raises(InputError, match="DeepSpeed"):
        launched.check(0, "")
    return None


@pytest.mark.parametrize("kind", [InputError, BusyError])
def test_a_refusal_of_one_rank_is_raised_on_all(cpu_world: World, kind: type[InputError]) -> None:
    def work() -> None:
        raise kind("freeze_unknown", name="x", known="y")

    with pytest.raises(kind) as refused:
        cpu_world.together(work, chosen=True)
    assert (type(refused.value), refused.value.message.args) == (kind, {"name": "x", "known": "y"})


def test_only_the_chosen_rank_does_the_work(cpu_world: World) -> None:
    assert cpu_world.together(lambda: 5, chosen=True) == 5
    assert cpu_world.together(lambda: 5, chosen=False) is None


def test_cuda_numbers_gpus_as_the_driver_does_unless_asked_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    World()
    assert os.environ["CUDA_DEVICE_ORDER"] == "FASTEST_FIRST"
    monkeypatch.delenv("CUDA_DEVICE_ORDER")
    World()
    assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


ASYNC, OLD_ASYNC, DUMP = *world.ERROR_HANDLING, world.DUMP_TIME


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, {ASYNC: "3", DUMP: "30000"}),
        ({"TORCHELASTIC_RUN_ID": "x", ASYNC: "1"}, {ASYNC: "3", DUMP: "30000"}),  # torchrun's own
        ({"TORCHELASTIC_RUN_ID": "x", ASYNC: "0"}, {ASYNC: "0", DUMP: "30000"}),
        ({ASYNC: "1", DUMP: "5"}, {ASYNC: "1", DUMP: "5"}),
        ({OLD_ASYNC: "2"}, {OLD_ASYNC: "2", DUMP: "30000"}),
    ],
)
def test_nccl_leaves_time_for_the_certificate_unless_a_user_decided(
    given: dict[str, str], found: dict[str, str]
) -> None:
    world.leave_time_for_the_certificate(given)
    assert {name: value for name, value in given.items() if name != "TORCHELASTIC_RUN_ID"} == found


def test_nccls_settings_are_set_before_the_ranks_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    """They make their group then, and NCCL reads its environment only once."""
    found: list[tuple[str | None, ...]] = []
    monkeypatch.delenv(ASYNC, raising=False)
    meet = meeting.meet

    def seen(given: Mapping[str, str], *more: Any, **asked: Any) -> Any:
        found.append((given.get(ASYNC), given.get(DUMP)))
        return meet(given, *more, **asked)

    monkeypatch.setattr(world, "meet", seen)
    World()
    assert found == [("3", "30000")]


@pytest.mark.parametrize("error", ["SUCCESS", "TIMEOUT", "COMM_ERROR", "REMOTE_ERROR"])
def test_what_an_exchange_left_that_nccl_gave_up_is_not_used(monkeypatch: pytest.MonkeyPatch, error: str) -> None:
    """With some settings it only aborts the exchange, which then seems to be complete."""
    one = World()
    monkeypatch.setattr(one, "size", 2)
    monkeypatch.setattr(one, "_by_nccl", True)
    monkeypatch.setattr(world, "_error_of_the_group", lambda _device: error)
    monkeypatch.setattr(world, "gather_object", lambda items: items * 2)
    assert one.exchange_failed() == (error != "SUCCESS")
    if error == "SUCCESS":
        assert one.gather([7]) == [7, 7]
        return
    with pytest.raises(RuntimeError) as failed:
        one.gather([7])
    assert connection_broke(failed.value)


@pytest.mark.parametrize("error", [RuntimeError("no backend"), ValueError("not in this group")])
def test_a_group_that_is_being_left_has_not_failed(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """The watch looks at it while the main thread ends the run in order."""

    def backend(_device: torch.device) -> None:
        raise error

    one = World()
    monkeypatch.setattr(one, "_by_nccl", True)
    monkeypatch.setattr(torch.distributed, "group", SimpleNamespace(WORLD=SimpleNamespace(_get_backend=backend)))
    assert not one.exchange_failed()


def test_every_exchange_has_a_number(cpu_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """All ranks count the same ones."""
    monkeypatch.setattr(cpu_world, "size", 2)
    monkeypatch.setattr(world, "gather_object", lambda items: items)
    begun = cpu_world.rank_status.exchanges
    cpu_world.gather([1])
    monkeypatch.setattr(torch.distributed, "barrier", lambda **_: None)
    cpu_world.wait()
    assert cpu_world.rank_status.exchanges == begun + 2


@pytest.mark.parametrize(("device", "named"), [("cuda:0", [0]), ("cuda:1", [1]), ("cpu", None)])
def test_ranks_wait_on_the_gpu_that_they_see(
    cpu_world: World, monkeypatch: pytest.MonkeyPatch, device: str, named: list[int] | None
) -> None:
    """With Slurm's --gpus-per-task=1 that of every rank is the first, whatever its place on the machine."""
    asked: list[list[int] | None] = []
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(cpu_world, "size", 2)
    monkeypatch.setattr(cpu_world, "device", torch.device(device))
    monkeypatch.setattr(torch.distributed, "barrier", lambda *, device_ids: asked.append(device_ids))
    cpu_world.wait()
    assert asked == [named]


def test_values_of_a_rank_are_read_with_the_sums(cpu_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    own = torch.tensor(3.0)
    assert cpu_world.sum([1.0], own) == [1.0, 3.0]
    monkeypatch.setattr(cpu_world, "size", 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda flat: flat.mul_(2))
    assert cpu_world.sum([1.0, 0.1], own) == [2.0, 0.2, 3.0]
