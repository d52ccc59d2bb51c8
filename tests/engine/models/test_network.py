import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForSeq2SeqLM, UMT5Config, UMT5ForConditionalGeneration

from engine.models.on_device import find_head, network_of
from engine.models.seq2seq.padded import PaddedNetwork
from engine.models.t5.packed import PackedT5
from tests.engine.models.small import SHAPE, exact, gradients_of, random_rows, relative_error, small_t5, whole


def chosen(net: Any, *, bf16: bool = False) -> Any:
    return network_of(net, find_head(net), 7, bf16=bf16)


@pytest.mark.parametrize("bf16", [True, False])
@pytest.mark.parametrize("family", ["t5", "mt5"])
@pytest.mark.parametrize("function", ["relu", "gated-gelu", "gated-silu"])
def test_a_t5_on_a_cpu_is_packed(family: str, function: str, bf16: bool) -> None:
    assert isinstance(chosen(small_t5(family, feed_forward_proj=function), bf16=bf16), PackedT5)


@pytest.mark.parametrize("bf16", [True, False])
def test_a_bart_is_padded(tiny_bart: Path, bf16: bool) -> None:
    assert isinstance(chosen(AutoModelForSeq2SeqLM.from_pretrained(tiny_bart), bf16=bf16), PaddedNetwork)


def test_a_umt5_is_padded() -> None:
    torch.manual_seed(0)
    assert isinstance(chosen(UMT5ForConditionalGeneration(UMT5Config(**SHAPE))), PaddedNetwork)


@pytest.mark.parametrize("function", ["gelu", "gated-tanh"])
def test_a_t5_with_another_activation_is_padded_and_right(function: str) -> None:
    net, rows = small_t5(feed_forward_proj=function), random_rows()
    network = chosen(net)
    assert isinstance(network, PaddedNetwork)
    assert network.row_losses(*rows) == pytest.approx(exact(net, rows)[0], rel=1e-6)


def capped(net: Any) -> Any:
    """The model with logits that are no longer linear in the head's input."""

    def cap(_: nn.Module, __: Any, output: Any) -> Any:
        output.logits = 5 * torch.tanh(output.logits / 5)
        return output

    net.register_forward_hook(cap)
    return net


def test_a_t5_whose_head_cannot_be_separated_is_padded_and_right() -> None:
    net, rows = capped(small_t5()), random_rows()
    network = chosen(net)
    assert isinstance(network, PaddedNetwork)
    losses, expected = exact(net, rows)
    loss = network.summed_loss(*rows)
    assert loss.item() == pytest.approx(sum(losses), rel=1e-6)
    assert relative_error(whole(gradients_of(net, loss)), whole(expected)) <= 1e-5


def test_a_t5_whose_head_has_a_bias_is_padded_and_right() -> None:
    net, rows = small_t5(), random_rows()
    net.lm_head = nn.Linear(16, 40)
    network = chosen(net)
    assert isinstance(network, PaddedNetwork)
    assert network.row_losses(*rows) == pytest.approx(exact(net, rows)[0], rel=1e-6)


def test_on_another_device_a_t5_is_padded() -> None:
    net = small_t5()
    head = find_head(net)
    assert isinstance(network_of(net.to("meta"), head, 7, bf16=False), PaddedNetwork)


@pytest.mark.parametrize("make", [small_t5, lambda: capped(small_t5())], ids=["packed", "padded"])
def test_bf16_is_used_where_it_is_asked_for_and_only_there(make: Any) -> None:
    """The digits tell: bf16 has 8 bits of them, fp32 24."""
    net, rows = make(), random_rows()
    expected = torch.tensor(exact(net, rows)[0], dtype=torch.float64)
    errors = [
        relative_error(torch.tensor(chosen(copy.deepcopy(net), bf16=bf16).row_losses(*rows)), expected)
        for bf16 in (True, False)
    ]
    assert 2**-14 < errors[0] < 2**-6
    assert errors[1] < 2**-20


def test_both_ways_give_the_same_replies() -> None:
    net = small_t5(untied=True, initializer_factor=1.5).eval()
    prompts = random_rows()[0]
    packed, padded = (kind.replies(prompts, 20) for kind in (chosen(net), PaddedNetwork(net, None, 7, autocast=False)))
    for ours, theirs in zip(packed, padded, strict=True):
        assert theirs[: len(ours)] == ours
        assert set(theirs[len(ours) :]) <= {net.config.pad_token_id}
