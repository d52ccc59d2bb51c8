"""What the network between machines is found to carry, with a sum that takes as long as the test says."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch.distributed as dist

from engine.contract.traffic import BUCKET_ELEMENTS
from engine.process import exchange
from engine.process.heartbeat import RankStatus


@pytest.fixture
def summed(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, list[int]]:
    """Two machines joined by 100 MB a second, and the sizes of what they sum."""
    sizes: list[int] = []
    clock = [0.0]

    def all_reduce(flat: Any) -> None:
        sizes.append(flat.numel())
        clock[0] += flat.numel() * 4 / 100e6

    monkeypatch.setattr(dist, "all_reduce", all_reduce)
    monkeypatch.setattr(exchange, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    world = SimpleNamespace(
        size=2, machines=["a", "b"], device="cpu", rank_status=RankStatus(), wait=list, from_main=lambda value: value
    )
    return world, sizes


def test_a_short_sum_says_what_the_gradients_of_a_step_take(summed: tuple[Any, list[int]]) -> None:
    world, sizes = summed
    message = exchange.measured(world, 50_000_000)
    assert message is not None
    assert message.args == {"rate": "100", "size": "200", "seconds": "2"}
    assert sizes == [1, BUCKET_ELEMENTS // 16, BUCKET_ELEMENTS]
    assert world.rank_status.longest_exchange == pytest.approx(2.0)


def test_of_a_divided_model_it_says_what_a_micro_batch_takes(summed: tuple[Any, list[int]]) -> None:
    """Each of two ranks sends half of 60 MB of weights in bf16, forward and backward, and of 40 MB of gradients."""
    world, _ = summed
    message = exchange.measured(world, 10_000_000, gathered=60_000_000)
    assert message is not None
    assert message.code == "network_measured_divided"
    assert message.args == {"rate": "100", "size": "50", "seconds": "0.5"}
    assert world.rank_status.longest_exchange == pytest.approx(0.5)


def test_a_slow_network_is_not_busy_for_long(summed: tuple[Any, list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    world, sizes = summed
    monkeypatch.setattr(exchange, "SHORT_SECONDS", 0.005)
    assert exchange.bytes_per_second(world) == pytest.approx(100e6)
    assert sizes == [1, BUCKET_ELEMENTS // 16]


def test_one_machine_measures_nothing(summed: tuple[Any, list[int]]) -> None:
    world, sizes = summed
    world.machines = ["a"]
    assert (exchange.measured(world, 50_000_000), sizes) == (None, [])
