"""Rows end to end on a GPU give what padded rows give; in place of the GPU's kernel is one of our own."""

import copy
import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.masking_utils import chunked_causal_mask_function

from engine.models.causal import varlen
from engine.models.causal.attention import NAME, UnsupportedError
from engine.models.causal.padded import PaddedCausal
from engine.models.causal.varlen import VarlenCausal, require_window
from engine.models.loss import keeping_token_losses
from engine.models.on_device import find_head
from tests.engine.gpu.conftest import require_gpus
from tests.engine.models.adapters import learning, settings
from tests.engine.models.causal import varlen_kernel
from tests.engine.models.causal.exact import MODELS, SHAPES, apart, drawn, gradients_of, random_prompts, random_rows
from tests.engine.models.causal.small import model

LIMIT = 1.5e-6  # padded rows themselves are up to 8e-7 from float64
LORA = {"all weights": None, "LoRA": "all"}


@pytest.fixture(autouse=True)
def _standing_in(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("gpu") is None:
        monkeypatch.setattr(varlen, "kernel", lambda: varlen_kernel.varlen_attn)
    varlen_kernel.given.clear()


def both(model_type: str, parts: str | None = None, *, bf16: bool = False, **more: Any) -> list[Any]:
    """A model computed over padded rows, and over rows end to end."""
    net = drawn(model_type, **more)
    if parts is not None:
        learning(net, settings(lora_parts=parts))
    return [
        kind(each, find_head(each), 5, bf16=bf16)
        for kind in (PaddedCausal, VarlenCausal)
        for each in [copy.deepcopy(net)]
    ]


def computed(network: Any, rows: list[Any]) -> tuple[Tensor, dict[str, Tensor]]:
    """The losses of all tokens, float64, and the gradient of their sum."""
    with keeping_token_losses() as losses:
        loss = network.summed_loss(rows)
    return torch.cat(losses).double(), {name: part.clone() for name, part in gradients_of(network.model, loss).items()}


def test_the_kernel_here_takes_what_torchs_takes() -> None:
    from torch.nn.attention.varlen import varlen_attn

    ours, theirs = (inspect.signature(each).parameters for each in (varlen_kernel.varlen_attn, varlen_attn))
    assert [(one.name, one.kind, one.default) for one in ours.values()] == [
        (one.name, one.kind, one.default) for one in theirs.values()
    ]


@pytest.mark.parametrize("parts", LORA.values(), ids=LORA)
@pytest.mark.parametrize("model_type", MODELS)
def test_losses_and_gradients_are_those_of_padded_rows(model_type: str, parts: str | None) -> None:
    padded, packed = both(model_type, parts)
    rows = random_rows()
    expected, gradients = computed(padded, rows)
    losses, found = computed(packed, rows)
    assert float((losses - expected).norm() / expected.norm()) <= 1e-6
    assert apart(found, {name: part.double() for name, part in gradients.items()}) <= LIMIT
    assert packed.row_losses(rows) == pytest.approx(padded.row_losses(rows), rel=1e-6)


def test_the_kernel_gets_where_rows_begin_and_the_longest() -> None:
    _, packed = both("gemma3_text")
    packed.summed_loss(random_rows())
    full, window = varlen_kernel.given
    assert full["ends"].tolist() == window["ends"].tolist() == [0, 7, 27, 30, 42, 44]
    assert full["longest"] == window["longest"] == (20, 20)
    assert {full["window"], window["window"]} == {(-1, 0), (5, 0)}  # six tokens with itself
    packed.summed_loss(random_rows(SHAPES[4:]))
    assert {call["window"] for call in varlen_kernel.given[2:]} == {(-1, 0)}  # no row is as long as the window


def test_under_autocast_the_kernel_computes_in_bf16() -> None:
    padded, packed = both("llama", bf16=True)
    rows = random_rows()
    expected, _ = computed(padded, rows)
    losses, _ = computed(packed, rows)
    assert {call["kind"] for call in varlen_kernel.given} == {torch.bfloat16}
    assert float((losses - expected).norm() / expected.norm()) <= 2**-6


def test_nothing_is_padded() -> None:
    _, packed = both("llama")
    assert packed.padded([(3, 4), (10, 2)]) == 19


def test_replies_are_generated_by_the_models_own_attention() -> None:
    padded, packed = both("llama")
    prompts = random_prompts((3, 9, 1))
    assert packed.replies(prompts, 6) == padded.replies(prompts, 6)
    tokens = packed.reply_tokens(prompts[0], lambda logits: int(logits.argmax()))
    expected = padded.reply_tokens(prompts[0], lambda logits: int(logits.argmax()))
    assert [next(tokens) for _ in range(4)] == [next(expected) for _ in range(4)]
    tokens.close()
    assert packed.model.config._attn_implementation == NAME
    assert packed.row_losses(random_rows()) == pytest.approx(padded.row_losses(random_rows()), rel=1e-6)


def test_a_rule_is_taken_for_a_window_only_if_it_is_one() -> None:
    def windowed(here: Tensor, there: Tensor) -> Tensor:
        return (there <= here) & (there > here - 4)

    def chunked(here: Tensor, there: Tensor) -> Tensor:
        none = torch.zeros(1, 1, dtype=torch.int64)
        found: Tensor = chunked_causal_mask_function(4, none[0])(none, none, here, there)
        return found

    require_window(windowed, 4)
    for rule, size in ((windowed, 3), (windowed, 5), (chunked, 4), (lambda here, there: there >= 0 * here, 4)):
        with pytest.raises(UnsupportedError):
            require_window(rule, size)


@pytest.mark.gpu
@pytest.mark.parametrize("window", [(-1, 0), (70, 0)])
def test_torchs_kernel_computes_what_ours_does_on_a_gpu(window: tuple[int, int]) -> None:
    require_gpus(1)
    torch.manual_seed(0)
    lengths = [5, 150, 2, 129]
    parts = [torch.randn(sum(lengths), heads, 64, dtype=torch.bfloat16, device="cuda") for heads in (6, 2, 2)]
    ends = torch.tensor([0, *lengths]).cumsum(0).int()
    given: dict[str, Any] = {"window_size": window, "enable_gqa": True}
    weight = torch.randn(sum(lengths), 6, 64)
    results = []
    kernels: tuple[varlen.Kernel, ...] = (varlen.kernel(), varlen_kernel.varlen_attn)
    for kernel, device in zip(kernels, ("cuda", "cpu"), strict=True):
        own = [nn.Parameter(part.to(device)) for part in parts]
        found = kernel(*own, ends.to(device), ends.to(device), 150, 150, **given)
        (found.float() * weight.to(device)).sum().backward()
        results.append(
            [found.detach().float().cpu(), *(part.grad.float().cpu() for part in own if part.grad is not None)]
        )
    for one, other in zip(*results, strict=True):
        assert float((one - other).norm() / other.norm()) <= 2**-6


@pytest.mark.gpu
def test_on_a_gpu_rows_end_to_end_give_what_padded_rows_do() -> None:
    """With heads as a small chat model has them."""
    require_gpus(1)
    heads = {"num_attention_heads": 9, "num_key_value_heads": 3, "hidden_size": 576, "intermediate_size": 1536}
    net = model("llama", **heads, max_position_embeddings=256).to("cuda").eval()
    rows = random_rows([(length, ((1, length),)) for length in (150, 5, 129, 2)])
    results = [
        computed(kind(each, find_head(each), 64, bf16=True), rows)
        for kind in (PaddedCausal, VarlenCausal)
        for each in [copy.deepcopy(net)]
    ]
    (expected, gradients), (losses, found) = results
    assert float((losses - expected).norm() / expected.norm()) <= 2**-6
    assert apart(found, {name: part.double() for name, part in gradients.items()}) <= 2**-5
