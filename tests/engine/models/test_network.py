import copy
from typing import Any

import pytest
import torch
from torch import nn

from engine.models.network import prompts_of
from engine.models.on_device import find_head, network_of
from engine.models.seq2seq.padded import PaddedNetwork
from tests.engine.models.small import exact, random_rows, relative_error, small_t5


def chosen(net: Any, *, bf16: bool = False) -> Any:
    return network_of(net, find_head(net), 7, bf16=bf16)


def capped(net: Any) -> Any:
    """The model with logits that are no longer linear in the head's input."""

    def cap(_: nn.Module, __: Any, output: Any) -> Any:
        output.logits = 5 * torch.tanh(output.logits / 5)
        return output

    net.register_forward_hook(cap)
    return net


@pytest.mark.parametrize("make", [small_t5, lambda: capped(small_t5())], ids=["packed", "padded"])
def test_bf16_is_used_where_it_is_asked_for_and_only_there(make: Any) -> None:
    """The digits tell: bf16 has 8 bits of them, fp32 24."""
    net, rows = make(), random_rows()
    expected = torch.tensor(exact(net, rows)[0], dtype=torch.float64)
    errors = [
        relative_error(torch.tensor(chosen(copy.deepcopy(net), bf16=bf16).row_losses(rows)), expected)
        for bf16 in (True, False)
    ]
    assert 2**-14 < errors[0] < 2**-6
    assert errors[1] < 2**-20


def test_both_ways_give_the_same_replies() -> None:
    net = small_t5(untied=True, initializer_factor=1.5).eval()
    prompts = prompts_of(random_rows())
    packed, padded = (kind.replies(prompts, 20) for kind in (chosen(net), PaddedNetwork(net, None, 7, autocast=False)))
    for ours, theirs in zip(packed, padded, strict=True):
        assert theirs[: len(ours)] == ours
        assert set(theirs[len(ours) :]) <= {net.config.pad_token_id}
