"""How often the host waits for a GPU in a step, counted on the processor, which takes a GPU's way through the code."""

import copy
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from engine.cpu import placement
from engine.models.causal.padded import PaddedCausal
from engine.models.freezing import set_training_mode, trained_parameters
from engine.models.on_device import find_head
from engine.models.seq2seq.padded import PaddedNetwork
from engine.process.world import World
from engine.training.step import StepRunner
from tests.engine.models.causal import exact
from tests.engine.models.small import random_rows, small_t5
from tests.engine.training.test_causal_step import Held

READS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim"}


class Waits(TorchDispatchMode):
    """Counts what would have the host wait for values, and casts of weights."""

    def __init__(self, weights: list[Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: Counter[str] = Counter()
        self._weights = {weight.data_ptr() for weight in weights}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in READS:
            self.found[name] += 1
        if name in ("index", "index_put", "index_put_") and any(
            isinstance(index, Tensor) and index.dtype == torch.bool for index in args[1]
        ):
            self.found["boolean index"] += 1
        if name == "_to_copy" and args[0].data_ptr() in self._weights:
            self.found["casts of weights"] += 1
        return func(*args, **(kwargs or {}))


class Copies(TorchFunctionMode):
    """Counts copies to the host, which are none on the processor."""

    def __init__(self, found: Counter[str]) -> None:
        super().__init__()
        self._found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.cpu:
            self._found["copies to the host"] += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "on_host", lambda _: False)


def t5(*, bf16: bool) -> tuple[PaddedNetwork, list[Any]]:
    net = small_t5("t5")
    return PaddedNetwork(net, find_head(net), 7, autocast=bf16), random_rows()


def llama(*, bf16: bool) -> tuple[PaddedCausal, list[Any]]:
    net = exact.drawn("llama")
    return PaddedCausal(net, find_head(net), 5, bf16=bf16), exact.random_rows()


def step_of(network: Any, rows: list[Any], world: World, budget: int) -> tuple[Any, dict[str, Any]]:
    learning = trained_parameters(network.model)
    network.model.zero_grad()
    store: Any = Held(rows)
    found = StepRunner(network, store, world, list(learning.values()), budget, 1e9).run(
        np.arange(len(rows)), stop_asked=False
    )
    return found, {name: part.grad for name, part in learning.items() if part.grad is not None}


@pytest.mark.parametrize("model", [t5, llama])
@pytest.mark.usefixtures("as_on_a_gpu")
def test_the_host_waits_twice_a_step_and_weights_are_cast_once(cpu_world: World, model: Any) -> None:
    network, rows = model(bf16=True)
    set_training_mode(network.model)
    with Waits(list(network.model.parameters())) as waits, Copies(waits.found):
        result, _ = step_of(network, rows, cpu_world, 1)
    weights = sum(parameter.dim() > 1 for parameter in network.model.parameters())
    casts = waits.found.pop("casts of weights")
    assert result.micro_batches == len(rows) > 3
    assert casts <= weights + result.micro_batches  # the head has a cast of its own
    assert waits.found == {"_local_scalar_dense": 1, "copies to the host": 1}


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("model", [t5, llama])
def test_a_gpus_way_gives_the_same_loss_and_gradient(
    cpu_world: World, monkeypatch: pytest.MonkeyPatch, model: Any, bf16: bool
) -> None:
    network, rows = model(bf16=bf16)
    network.model.eval()
    here, expected = step_of(network, rows, cpu_world, 60)
    expected = copy.deepcopy(expected)
    monkeypatch.setattr(placement, "on_host", lambda _: False)
    there, found = step_of(network, rows, cpu_world, 60)
    assert there.micro_batches == here.micro_batches > 1
    assert there.loss == pytest.approx(here.loss, rel=1e-6)
    assert there.grad_norm == pytest.approx(here.grad_norm, rel=1e-2 if bf16 else 1e-5)
    assert [row[:2] for row in there.rows] == [row[:2] for row in here.rows]
    assert exact.apart(found, {name: part.double() for name, part in expected.items()}) <= (1e-2 if bf16 else 1e-5)
