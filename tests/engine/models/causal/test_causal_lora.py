"""Adapters of causal models: exact however the rows are cut, scored and merged as they are computed."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from engine.models.freezing import frozen_tensors
from engine.models.lora import Adapters
from engine.training.merging import computing_merged
from tests.engine.models.adapters import adapted, filled
from tests.engine.models.causal.exact import MODELS, apart, drawn, exact, network, random_prompts, random_rows

# With some parts of a product that have adapters, and some that do not.
PARTS = {"all": "all", "some": "q_proj,gate_proj,fc1,c_attn"}


class Whole(torch.nn.Module):
    """A model whose adapted weights are W + scale × B @ A, formed from factors that learn."""

    def __init__(self, net: Any, adapters: Adapters) -> None:
        super().__init__()
        self.net, self.config = net.requires_grad_(False), net.config
        self.scales = {name: (layer.adapter.scale, layer.transposed) for name, layer in adapters.layers.items()}
        for name, parameter in adapters.parameters().items():
            self.register_parameter(name.replace(".", "-"), torch.nn.Parameter(parameter.detach().clone()))

    def set_attn_implementation(self, name: str) -> None:
        self.net.set_attn_implementation(name)

    def forward(self, **inputs: Any) -> Any:
        weights, factors = dict(self.net.named_parameters()), dict(self.named_parameters())
        for name, (scale, transposed) in self.scales.items():
            up, down = (factors[f"{name}.{part}".replace(".", "-")] for part in ("lora_B", "lora_A"))
            change = scale * up @ down
            weights[f"{name}.weight"] = weights[f"{name}.weight"] + (change.t() if transposed else change)
        return functional_call(self.net, weights, (), inputs)


def wanted(before: Any, adapters: Adapters) -> tuple[float, dict[str, Tensor]]:
    losses, gradients = exact(Whole(before, adapters), random_rows())
    return sum(losses), {name.replace("-", "."): gradient for name, gradient in gradients.items()}


@pytest.mark.parametrize("cut", [(5,), (2, 3), (1, 1, 1, 1, 1)])
@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("name", MODELS)
def test_loss_and_gradients_are_those_of_whole_weights(name: str, parts: str, cut: tuple[int, ...]) -> None:
    net, rows = drawn(name), iter(random_rows())
    before = copy.deepcopy(net)
    adapters = filled(adapted(net, lora_alpha=4.0, lora_parts=_named(net, PARTS[parts])))
    loss, gradients = wanted(before, adapters)
    computed, found = network(net), 0.0
    for size in cut:
        part = computed.summed_loss([next(rows) for _ in range(size)])
        part.backward()
        found += part.item()
    own = {key: p.grad for key, p in adapters.parameters().items() if p.grad is not None}
    assert found == pytest.approx(loss, rel=1e-6)
    assert apart(own, gradients) <= 1e-5


def _named(net: Any, parts: str) -> str:
    """Those of some parts that a model has."""
    known = {name.rpartition(".")[2] for name, _ in net.named_modules()}
    return ",".join(part for part in parts.split(",") if part == "all" or part in known)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("name", MODELS)
def test_merged_weights_compute_what_a_model_that_loads_them_does(name: str, parts: str, bf16: bool) -> None:
    net, rows = drawn(name), random_rows()
    for parameter in net.parameters():
        parameter.data = parameter.data.bfloat16().float()
    loaded = copy.deepcopy(net)
    adapters = filled(adapted(net, lora_alpha=4.0, lora_parts=_named(net, PARTS[parts])), kind=torch.bfloat16)
    weights = {key: tensor.clone() for key, tensor in frozen_tensors(net).items()}
    for key, layer in adapters.layers.items():
        module = loaded.get_submodule(key)
        module.weight.data = (module.weight.data + layer.change()).bfloat16().float()
    loaded.requires_grad_(False)
    computed = network(net, bf16=bf16)
    computed.drop_frozen_fp32()
    alone = computed.row_losses(rows)
    with computing_merged(weights, adapters):
        computed.begin_step()
        merged = computed.row_losses(rows)
    computed.begin_step()
    assert computed.row_losses(rows) == alone
    expected = network(loaded, bf16=bf16).row_losses(rows)
    assert merged == pytest.approx(expected, rel=1e-2 if bf16 else 1e-6)
    assert merged != alone


@pytest.mark.parametrize("name", MODELS)
def test_replies_are_those_of_whole_weights(name: str) -> None:
    net = drawn(name)
    whole = copy.deepcopy(net)
    adapters = filled(adapted(net, lora_alpha=4.0))
    for key, layer in adapters.layers.items():
        whole.get_submodule(key).weight.data += layer.change()
    prompts = random_prompts((3, 9, 1))
    assert network(net).replies(prompts, 6) == network(whole).replies(prompts, 6)
