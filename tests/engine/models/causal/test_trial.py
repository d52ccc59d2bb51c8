"""Whether rows can be laid end to end is found out by trial, and a model is left as it was if they cannot."""

from typing import Any

import pytest
import torch

from engine.models.causal.attention import NAME
from engine.models.causal.trial import reason_to_pad
from engine.models.on_device import find_head
from tests.engine.models.causal.exact import MODELS, drawn

REASONS: dict[str, tuple[str, dict[str, Any]]] = {
    "gemma2": ("softcap", {"head_dim": 8}),
    "gpt_oss": ("s_aux", {"num_local_experts": 4}),
    "bloom": ("own_attention", {}),
    "mamba": ("differs", {}),
    "llama": ("dropout", {"attention_dropout": 0.1}),
}


@pytest.mark.parametrize("model_type", MODELS)
def test_models_with_plain_attention_need_no_padding(model_type: str) -> None:
    for kind in (torch.float32, torch.bfloat16):
        net = drawn(model_type).to(kind)
        assert reason_to_pad(net, find_head(net)) is None
        assert net.config._attn_implementation == NAME


@pytest.mark.parametrize("model_type", REASONS)
def test_the_reason_to_pad_is_named(model_type: str) -> None:
    reason, more = REASONS[model_type]
    net = drawn(model_type, **more)
    before = net.config._attn_implementation
    found = reason_to_pad(net, find_head(net))
    assert found is not None
    assert found.key == f"padded.{reason}"
    assert {found.text("en"), found.text("zh")}.isdisjoint({found.key, ""})
    assert net.config._attn_implementation == before


def test_a_trial_changes_neither_modes_nor_random_numbers() -> None:
    net = drawn("gpt2", resid_pdrop=0.5)
    head = find_head(net)
    net.transformer.h[1].train()
    modes = [module.training for module in net.modules()]
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    reason_to_pad(net, head)
    assert [module.training for module in net.modules()] == modes
    assert torch.equal(torch.rand(3), expected)


def test_rows_that_leak_into_each_other_are_noticed() -> None:
    """A layer that mixes a token with the one before it, whichever row that is in."""
    net = drawn("llama")
    net.model.norm.register_forward_hook(lambda _, __, output: output + output.roll(1, dims=1))
    found = reason_to_pad(net, find_head(net))
    assert found is not None
    assert found.key == "padded.differs"
