import weakref
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from engine.cpu import weight_casts
from engine.cpu.prepacking import Prepacked
from engine.cpu.weight_casts import Values
from engine.data.token_store import Row
from engine.models.network import prompts_of
from engine.models.t5 import packed as packed_t5
from tests.engine.models.small import LENGTHS, frozen, packed, random_rows, small_t5

CASTS = {torch.ops.aten._to_copy.default: 0, torch.ops.aten.copy_.default: 1}  # which argument is read


class Casts(TorchDispatchMode):
    """Counts how often each of some parameters is cast or copied."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it so
        self._wanted = {parameter.data_ptr(): parameter for parameter in parameters}
        self.counts: Counter[nn.Parameter] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Counts, and does what is asked."""
        place = CASTS.get(func)
        if place is not None and args[place].data_ptr() in self._wanted:
            self.counts[self._wanted[args[place].data_ptr()]] += 1
        return func(*args, **(kwargs or {}))


def parameter(*, learns: bool = True) -> nn.Parameter:
    torch.manual_seed(0)
    return nn.Parameter(torch.randn(3, 4), requires_grad=learns)


def change(weight: nn.Parameter) -> None:
    with torch.no_grad():
        weight.mul_(2)


def test_a_cast_equals_the_parameter_cast() -> None:
    weight = parameter()
    value = Values(torch.bfloat16)[weight]
    assert torch.equal(value, weight.detach().bfloat16())
    assert not value.requires_grad


def test_a_parameter_of_that_dtype_is_not_copied() -> None:
    weight, values = parameter(), Values(torch.float32)
    assert values[weight].data_ptr() == weight.data_ptr()
    assert not values[weight].requires_grad
    change(weight)
    assert torch.equal(values[weight], weight.detach())


def test_a_weight_is_cast_once_however_often_it_is_used() -> None:
    weight, values = parameter(), Values(torch.bfloat16)
    with Casts([weight]) as casts:
        found = [values[weight] for _ in range(3)]
    assert casts.counts == {weight: 1}
    assert len({value.data_ptr() for value in found}) == 1


def test_after_an_update_a_weight_is_cast_again_in_place() -> None:
    weight, values = parameter(), Values(torch.bfloat16)
    before = values[weight].data_ptr()
    change(weight)
    values.refresh()
    with Casts([weight]) as casts:
        found = [values[weight] for _ in range(3)]
    assert casts.counts == {weight: 1}
    assert torch.equal(found[-1], weight.detach().bfloat16())
    assert found[-1].data_ptr() == before


def test_what_is_frozen_is_never_cast_again() -> None:
    weight, values = parameter(learns=False), Values(torch.bfloat16)
    expected = values[weight].clone()
    with Casts([weight]) as casts:
        for _ in range(3):
            values.refresh()
            assert torch.equal(values[weight], expected)
    assert casts.counts == {}


def micro_batch(network: Any, rows: Sequence[Row]) -> float:
    loss = network.summed_loss(rows)
    loss.backward()
    return float(loss.item())


def test_a_later_step_casts_only_what_learns() -> None:
    net = frozen(small_t5(untied=True), "encoder,embeddings")
    network, rows = packed(net, torch.bfloat16), random_rows(LENGTHS)
    used = [weight for name, weight in net.named_parameters() if is_cast(name)]
    for step in range(3):
        network.begin_step()
        with Casts(net.parameters()) as casts:
            for _ in range(3):
                micro_batch(network, rows)
        expected = [weight for weight in used if weight.requires_grad or not step]
        assert casts.counts == dict.fromkeys(expected, 1)


def is_cast(name: str) -> bool:
    """All but what works on the residual stream or on scores, in fp32."""
    return not any(part in name for part in ("shared", "final_layer_norm", "relative_attention_bias"))


def test_the_loss_after_an_update_equals_that_of_a_new_network() -> None:
    net, rows = small_t5(), random_rows()
    network = packed(net, torch.bfloat16)
    before = network.row_losses(rows)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    micro_batch(network, rows)
    optimizer.step()
    network.begin_step()
    assert network.row_losses(rows) == packed(net, torch.bfloat16).row_losses(rows)
    assert network.row_losses(rows) != before


def product(prepacked: Prepacked, kind: torch.dtype) -> Tensor:
    """Of ones by a prepacked weight of `parameter`'s width."""
    return prepacked.times(torch.ones(1, 4, dtype=kind))


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_what_learns_is_prepacked_until_the_weights_may_change(kind: torch.dtype) -> None:
    weight, values = parameter(), Values(kind)
    before = values.prepacked(weight)
    assert values.prepacked(weight) is before
    change(weight)
    values.refresh()
    torch.testing.assert_close(product(values.prepacked(weight), kind), weight.detach().to(kind).sum(dim=1)[None])


def test_a_small_frozen_head_stays_prepacked_and_nothing_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[Prepacked]] = []

    class Watched(Prepacked):
        def __init__(self, *weights: Tensor) -> None:
            super().__init__(*weights)
            made.append(weakref.ref(self))

    for module in (weight_casts, packed_t5):
        monkeypatch.setattr(module, "Prepacked", Watched)
    for parts, limit, left in (
        ("encoder,embeddings", 1 << 20, 1),
        ("encoder", 1 << 20, 0),
        ("encoder,embeddings", 100, 0),
    ):
        monkeypatch.setattr("engine.models.t5.packed.PREPACKED", limit)
        network, rows = packed(frozen(small_t5(), parts), torch.bfloat16), random_rows()
        made.clear()
        network.row_losses(rows)
        network.replies(prompts_of(rows), 3)
        assert len(made) > 10
        network.begin_step()
        micro_batch(network, rows)
        assert sum(each() is not None for each in made) == left


def test_without_training_a_weight_is_held_once() -> None:
    weight, values = parameter(), Values(torch.bfloat16)
    values.prepacked(weight)
    with Casts([weight]) as casts:
        values[weight]
    assert casts.counts == {weight: 1}


def test_a_cast_keeps_its_memory_across_updates() -> None:
    weight, values = parameter(), Values(torch.bfloat16)
    before = values[weight].data_ptr()
    change(weight)
    values.refresh()
    found = product(values.prepacked(weight), torch.bfloat16)
    torch.testing.assert_close(found, weight.detach().bfloat16().sum(dim=1)[None])
    assert values[weight].data_ptr() == before


def test_losses_and_replies_before_a_step_change_nothing_of_it() -> None:
    """A head that stays prepacked among them."""
    found = []
    for scored in (False, True):
        net = frozen(small_t5(), "encoder,embeddings")
        network, rows = packed(net, torch.bfloat16), random_rows()
        network.begin_step()
        if scored:
            network.row_losses(rows)
            network.replies(prompts_of(rows), 3)
            network.begin_step()
        loss = micro_batch(network, rows)
        found.append([loss, *(weight.grad for weight in net.parameters() if weight.grad is not None)])
    assert found[0][0] == found[1][0]
    assert all(torch.equal(*pair) for pair in zip(found[0][1:], found[1][1:], strict=True))
