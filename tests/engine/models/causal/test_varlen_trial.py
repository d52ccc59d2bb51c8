"""Whether rows are laid end to end on a GPU is found out by trial; whatever speaks against it is a reason to pad."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.contract.texts import Phrase
from engine.models.causal import choice, varlen, varlen_trial
from engine.models.causal.padded import PaddedCausal
from engine.models.causal.varlen import VarlenCausal
from engine.models.causal.varlen_trial import reason_to_pad
from engine.models.network import END_TO_END, PADDED, Agreement
from engine.models.on_device import find_head, network_of
from tests.engine.gpu.conftest import require_gpus
from tests.engine.models.adapters import learning, settings
from tests.engine.models.causal import varlen_kernel
from tests.engine.models.causal.exact import MODELS, drawn, random_rows

REASONS: dict[str, tuple[str, dict[str, Any]]] = {
    "gemma2": ("softcap", {"head_dim": 8}),
    "gpt_oss": ("s_aux", {"num_local_experts": 4}),
    "bloom": ("own_attention", {}),
    "mamba": ("differs", {}),
    "llama": ("dropout", {"attention_dropout": 0.1}),
}


@pytest.fixture(autouse=True)
def _as_on_a_gpu(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("gpu") is not None:
        return
    monkeypatch.setattr(varlen_trial, "DEVICES", ("cpu",))
    monkeypatch.setattr(choice, "packs", lambda _: False)
    use(monkeypatch, varlen_kernel.varlen_attn)


def use(monkeypatch: pytest.MonkeyPatch, kernel: Callable[..., Tensor]) -> None:
    monkeypatch.setattr(varlen, "kernel", lambda: kernel)


def asked(net: Any, *, bf16: bool = True) -> Phrase | None:
    return reason_to_pad(net, find_head(net), 5, bf16=bf16)


@pytest.mark.parametrize("model_type", MODELS)
def test_models_with_plain_attention_need_no_padding(model_type: str) -> None:
    for kind, lora in ((torch.float32, False), (torch.bfloat16, True)):
        net = drawn(model_type).to(kind)
        if lora:
            learning(net, settings())
        before = net.config._attn_implementation
        assert asked(net) is None
        assert net.config._attn_implementation == before


@pytest.mark.parametrize("model_type", REASONS)
def test_the_reason_to_pad_is_named(model_type: str) -> None:
    reason, more = REASONS[model_type]
    net = drawn(model_type, **more)
    before = net.config._attn_implementation
    found = asked(net)
    assert found is not None
    assert found.key == f"padded.{reason}"
    assert {found.text("en"), found.text("zh")}.isdisjoint({found.key, ""})
    assert net.config._attn_implementation == before


def absent(*_: Any, **__: Any) -> Tensor:
    raise RuntimeError("FlashAttention only supports Ampere GPUs or newer.\nmore")


def leaking(query: Tensor, *given: Any, **more: Any) -> Tensor:
    """Takes all rows for one."""
    key, value, ends = given[:3]
    one = torch.tensor([0, len(query)], dtype=ends.dtype)
    return varlen_kernel.varlen_attn(query, key, value, one, one, len(query), len(query), **more)


def without_gradient(query: Tensor, key: Tensor, *given: Any, **more: Any) -> Tensor:
    return varlen_kernel.varlen_attn(query, key.detach(), *given, **more)


def not_a_number(query: Tensor, *given: Any, **more: Any) -> Tensor:
    return varlen_kernel.varlen_attn(query, *given, **more) * torch.nan


@pytest.mark.parametrize("kernel", [leaking, without_gradient, not_a_number])
def test_a_kernel_that_computes_something_else_is_not_used(
    monkeypatch: pytest.MonkeyPatch, kernel: Callable[..., Tensor]
) -> None:
    use(monkeypatch, kernel)
    net = drawn("llama")
    found = network_of(net, find_head(net), 5, bf16=True)
    assert (type(found), found.layout) == (PaddedCausal, PADDED)
    assert "gives other results" in found.notices[0].text()


def test_a_card_or_a_torch_without_the_kernel_fails_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    net = drawn("llama")
    use(monkeypatch, absent)
    found = network_of(net, find_head(net), 5, bf16=True)
    assert type(found) is PaddedCausal
    assert "(FlashAttention only supports Ampere GPUs or newer. more)" in found.notices[0].text()
    assert "FlashAttention only supports" in found.notices[0].text("zh")

    def missing() -> Any:
        raise ImportError("No module named 'torch.nn.attention.varlen'")

    monkeypatch.setattr(varlen, "kernel", missing)
    reason = asked(net)
    assert reason is not None
    assert "No module named" in reason.text()
    assert found.summed_loss(random_rows()).isfinite()


def test_fp32_and_other_devices_are_padded_untried(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, absent)
    net = drawn("llama")
    assert asked(net, bf16=False) == Phrase("padded.fp32")
    monkeypatch.setattr(varlen_trial, "DEVICES", ("cuda",))
    assert asked(net) == Phrase("padded.device")


def test_rows_are_laid_end_to_end_if_the_trial_agrees_on_all_ranks() -> None:
    net = drawn("llama")
    found = network_of(net, find_head(net), 5, bf16=True)
    assert (type(found), found.layout, found.notices) == (VarlenCausal, END_TO_END, ())
    net = drawn("llama")
    others = network_of(net, find_head(net), 5, bf16=True, agreement=Agreement("", lambda _: False))
    assert type(others) is PaddedCausal
    assert "another rank's GPU" in others.notices[0].text()


def test_a_run_that_began_padded_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(varlen_trial, "reason_to_pad", lambda *_, **__: pytest.fail("nothing is to be tried"))
    net = drawn("llama")
    found = network_of(net, find_head(net), 5, bf16=True, agreement=Agreement(PADDED))
    assert type(found) is PaddedCausal
    assert "before the resume" in found.notices[0].text()


def test_a_trial_changes_neither_modes_nor_random_numbers() -> None:
    net = drawn("gpt2", resid_pdrop=0.5)
    head = find_head(net)
    net.transformer.h[1].train()
    modes = [module.training for module in net.modules()]
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    assert reason_to_pad(net, head, 5, bf16=True) is None
    assert [module.training for module in net.modules()] == modes
    assert torch.equal(torch.rand(3), expected)
    assert all(parameter.grad is None for parameter in net.parameters())


@pytest.mark.gpu
@pytest.mark.parametrize("model_type", MODELS)
def test_on_a_gpu_the_trial_agrees(model_type: str) -> None:
    require_gpus(1)
    net = drawn(model_type, num_attention_heads=2, num_key_value_heads=1).to("cuda")  # heads of 8 numbers
    assert asked(net) is None
