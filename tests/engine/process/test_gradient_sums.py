from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from engine.process import gradient_sums
from engine.process.gradient_sums import SumsAhead, buckets_of

if TYPE_CHECKING:
    from tests.engine.conftest import TwoRanks


@pytest.fixture
def summed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of what is summed, as with a second rank that has the same gradients."""
    sizes: list[int] = []

    def all_reduce(flat: Tensor, *, async_op: bool = False) -> None:  # noqa: ARG001
        sizes.append(flat.numel())
        flat.mul_(2)

    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    monkeypatch.setattr(gradient_sums, "BUCKET_ELEMENTS", 12)
    return sizes


@pytest.fixture
def layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(size, size + 1) for size in (2, 3, 4)))


def test_buckets_are_cut_where_they_are_full(layers: nn.Sequential, summed: list[int]) -> None:
    sizes = [[parameter.numel() for parameter in bucket] for bucket in buckets_of(layers.parameters())]
    assert (sizes, summed) == ([[6, 3, 12], [4, 20], [5]], [])
    assert buckets_of([]) == []


def test_buckets_are_summed_from_the_last_as_gradients_come(layers: nn.Sequential, summed: list[int]) -> None:
    sums = SumsAhead(layers.parameters(), nullcontext)
    with sums.during():
        layers(torch.ones(2)).sum().backward()
    assert (summed, sums.begun) == ([5, 24, 21], 3)
    sums.end()
    ours = [parameter.grad for parameter in layers.parameters()]
    layers.zero_grad()
    layers(torch.ones(2)).sum().backward()
    assert all(torch.equal(one, 2 * other.grad) for one, other in zip(ours, layers.parameters(), strict=True))  # type: ignore[arg-type, operator]


def test_what_no_backward_pass_came_to_is_summed_at_the_end(layers: nn.Sequential, summed: list[int]) -> None:
    unused = nn.Linear(1, 1)
    sums = SumsAhead([*layers.parameters(), *unused.parameters()], nullcontext)
    with sums.during():
        layers(torch.ones(2)).sum().backward()
    assert summed == []  # the last bucket comes first on every rank
    sums.end()
    assert summed == [7, 24, 21]
    assert [float(parameter.grad.abs().sum()) for parameter in unused.parameters() if parameter.grad is not None] == [
        0,
        0,
    ]


def test_few_copies_of_gradients_exist_at_once(
    layers: nn.Sequential, summed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gradient_sums, "UNDER_WAY", 1)
    waits: list[int] = []

    class Waiting:
        def __enter__(self) -> None:
            waits.append(len(summed))

        def __exit__(self, *_: Any) -> None: ...

    sums = SumsAhead(layers.parameters(), Waiting)
    with sums.during():
        layers(torch.ones(2)).sum().backward()
    sums.end()
    assert waits == [1, 2, 3]


def test_two_ranks_get_the_same_bits_during_the_last_pass(two_ranks: "TwoRanks") -> None:
    """Though one of them has more micro-batches, and a layer that the other never computes."""
    first, second = (found["ahead"] for found in two_ranks.found)
    assert first["same"]
    assert second["same"]
    assert first["sums"] == second["sums"]
    assert 0 < first["begun"] <= first["buckets"]


def test_hooks_are_gone_after_the_pass(layers: nn.Sequential, summed: list[int]) -> None:
    def hooks() -> Iterator[Any]:
        return (parameter._post_accumulate_grad_hooks for parameter in layers.parameters())

    with SumsAhead(layers.parameters(), nullcontext).during():
        assert all(hooks())
    assert not any(hooks())
    assert summed == []
