"""Models of Llama's kind with their backward pass written out, held against transformers' own in float64."""

import copy
from typing import Any

import pytest
import torch

from engine.cpu import native
from engine.models.causal.llama import LlamaNetwork, is_known
from engine.models.causal.replies import generated
from tests.engine.models.causal.exact import apart, drawn, exact, gradients_of, network, random_prompts, random_rows

SCALED = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
UNREAD = "a window that its class does not read"  # but transformers' caches do
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "biases everywhere": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "a head for each key": ("llama", {"num_key_value_heads": 4}),
    "one key for all heads": ("llama", {"num_key_value_heads": 1}),
    "heads of an odd width": ("llama", {"head_dim": 6}),
    "scaled rotation": (
        "llama",
        {"rope_parameters": {**SCALED, "rope_theta": 1e4, "original_max_position_embeddings": 8}},
    ),
    "a tied head": ("llama", {"tie_word_embeddings": True}),
    "a window": ("mistral", {"sliding_window": 4}),
    "a window in some layers": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]},
    ),
    "norms of heads": ("qwen3", {"head_dim": 8}),
    UNREAD: ("llama", {"sliding_window": 4}),
    "a window that is switched off": ("qwen3", {"head_dim": 8, "use_sliding_window": False, "sliding_window": 4}),
}


@pytest.fixture(params=["compiled", "torch"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """In C, and by torch alone."""
    if request.param == "torch":
        monkeypatch.setattr(native, "library", lambda: None)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("variant", VARIANTS)
def test_loss_and_gradient_equal_those_row_by_row_in_float64(variant: str) -> None:
    model_type, settings = VARIANTS[variant]
    net, rows = drawn(model_type, **settings), random_rows()
    losses, expected = exact(net, rows)
    found = network(net)
    assert isinstance(found, LlamaNetwork)
    for part in (rows[:2], rows[2:]):
        found.summed_loss(part).backward()
    assert apart({name: p.grad for name, p in net.named_parameters() if p.grad is not None}, expected) <= 1e-5
    assert found.row_losses(rows) == pytest.approx(losses, rel=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_replies_equal_transformers_to_each_prompt_alone(variant: str) -> None:
    model_type, settings = VARIANTS[variant]
    net, prompts = drawn(model_type, **settings), random_prompts((9, 4, 1))
    reference = drawn("llama") if variant == UNREAD else net
    expected = [generated(reference, [prompt], 12, torch.device("cpu"))[0] for prompt in prompts]
    assert network(net).replies(prompts, 12) == expected


@pytest.mark.parametrize("model_type", ["llama", "phi"])
def test_a_whole_model_in_bf16_replies(model_type: str) -> None:
    net, prompts = drawn(model_type), random_prompts((9, 4))
    net.generation_config.eos_token_id = net.config.eos_token_id = None
    assert list(map(len, network(net, bf16=True).replies(prompts, 5))) == [5, 5]


def test_an_update_is_in_the_next_step_and_not_in_this_one() -> None:
    for bf16 in (False, True):
        net, rows = drawn("llama"), random_rows()
        found = network(net, bf16=bf16)
        before = found.row_losses(rows)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.mul_(1.5)
        found.begin_step()
        after = found.row_losses(rows)
        assert after != before
        assert network(copy.deepcopy(net), bf16=bf16).row_losses(rows) == after


def test_gradients_of_two_micro_batches_in_bf16_are_added_in_fp32() -> None:
    net, rows = drawn("llama"), random_rows()
    found = network(net, bf16=True)
    one, two = (gradients_of(net, found.summed_loss(part)) for part in (rows[:2], rows[2:]))
    for part in (rows[:2], rows[2:]):
        found.summed_loss(part).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.dtype == torch.float32
        torch.testing.assert_close(parameter.grad, one[name] + two[name])


def test_a_frozen_model_has_no_gradient_and_a_loss() -> None:
    net = drawn("llama").requires_grad_(False)
    assert not network(net, bf16=True).summed_loss(random_rows()).requires_grad


@pytest.mark.parametrize(
    ("model_type", "settings"),
    [
        ("llama", {"hidden_act": "gelu"}),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}),
        ("gemma3_text", {}),
        ("phi", {}),
        ("granite", {}),
    ],
)
def test_a_model_that_computes_something_else_is_not_known(model_type: str, settings: dict[str, Any]) -> None:
    assert not is_known(drawn(model_type, **settings))
