"""Rows end to end give the losses and gradients of each row alone."""

import copy
from typing import Any

import pytest
import torch

from engine.models.causal.packed import PackedCausal
from tests.engine.models.causal.exact import MODELS, SHAPES, apart, drawn, exact, gradients_of, network, random_rows

LOGITS = {"cohere": {}, "granite": {"logits_scaling": 3.0}}  # more than one linear map


@pytest.mark.parametrize("model_type", [*MODELS, "qwen2", "phi3", "mistral", *LOGITS])
def test_loss_and_gradient_equal_those_row_by_row_in_float64(model_type: str) -> None:
    net, rows = drawn(model_type, **LOGITS.get(model_type, {})), random_rows()
    losses, expected = exact(net, rows)
    found = network(net)
    assert isinstance(found, PackedCausal)
    loss = found.summed_loss(rows)
    assert loss.dtype == torch.float64
    assert loss.item() == pytest.approx(sum(losses), rel=1e-6)
    assert apart(gradients_of(net, loss), expected) <= 1e-5
    assert found.row_losses(rows) == pytest.approx(losses, rel=1e-5)


@pytest.mark.parametrize("model_type", MODELS)
def test_any_cut_gives_the_same_gradient(model_type: str) -> None:
    net, rows = drawn(model_type), random_rows()
    _, expected = exact(net, rows)
    found = network(net)
    for part in (rows[:1], rows[1:4], rows[4:]):
        found.summed_loss(part).backward()
    assert apart({name: p.grad for name, p in net.named_parameters() if p.grad is not None}, expected) <= 1e-5


def test_nothing_is_padded() -> None:
    found = network(drawn("llama"))
    assert found.padded([(3, 4), (10, 2)]) == 19
    assert found.scoring_budget(256) == 1024
    assert found.scoring_budget(4096) == 4096


@pytest.mark.parametrize("model_type", MODELS)
def test_bf16_is_close_to_fp32_and_not_equal(model_type: str) -> None:
    net, rows = drawn(model_type), random_rows()
    wanted = torch.tensor(network(copy.deepcopy(net)).row_losses(rows), dtype=torch.float64)
    losses = torch.tensor(network(net, bf16=True).row_losses(rows), dtype=torch.float64)
    assert 0 < float((losses - wanted).norm() / wanted.norm()) < 2**-5


def held(net: Any, **settings: Any) -> set[torch.dtype]:
    """The dtypes of frozen weights that are matrices, once they need not be saved any more."""
    found = network(net, **settings)
    found.drop_frozen_fp32()
    assert {p.dtype for p in net.parameters() if p.requires_grad} == {torch.float32}
    return {p.dtype for p in net.parameters() if not p.requires_grad and p.dim() > 1}


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("learns", ["layers.1", "embed_tokens"])
def test_frozen_weights_are_held_in_the_dtype_they_are_computed_in(kind: torch.dtype, learns: str) -> None:
    for bf16, wanted in ((True, torch.bfloat16), (False, torch.float32)):
        net = drawn("llama").to(kind)
        for name, parameter in net.named_parameters():
            parameter.requires_grad_(learns in name)
        assert held(net, bf16=bf16) == {wanted}
        assert network(net, bf16=bf16).summed_loss(random_rows()).isfinite()


def test_a_loaded_bf16_model_has_no_fp32_copy_of_what_is_frozen() -> None:
    net = drawn("llama").to(torch.bfloat16).requires_grad_(False)
    before = {name: parameter.data_ptr() for name, parameter in net.named_parameters()}
    found = network(net, bf16=True)
    found.drop_frozen_fp32()
    found.row_losses(random_rows(SHAPES[:2]))
    assert {name: parameter.data_ptr() for name, parameter in net.named_parameters()} == before
