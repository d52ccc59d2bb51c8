"""Small models whose heads are as wide as those of real ones, which a GPU's kernels for attention require."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.cpu import placement
from engine.models.causal.padded import PaddedCausal
from engine.models.on_device import find_head
from engine.models.seq2seq.padded import PaddedNetwork
from tests.engine.models.adapters import learning, settings
from tests.engine.models.causal import exact
from tests.engine.models.small import LENGTHS, frozen, random_rows, small_t5
from tests.engine.training.test_host_waits import Copies, Waits

WIDE = {"hidden_size": 128, "intermediate_size": 192, "num_attention_heads": 2, "num_key_value_heads": 1}
# Kept: the output of its encoder, which is frozen. Gemma's logits are capped.
CASES = [("t5", False), ("t5", True), ("t5 kept", False), ("llama", False), ("llama", True), ("gemma2", False)]


def net_of(name: str, *, lora: bool = False) -> Any:
    """A model of its kind with its weights on the host; the same for the same name."""
    if name.startswith("t5"):
        net = small_t5("t5", d_model=128, d_kv=64, num_heads=2, d_ff=192)
    else:
        net = exact.drawn(name, head_dim=64, **WIDE, **({"sliding_window": 6} if name == "gemma2" else {}))
        shrink(net, "")
    if lora:
        learning(net, settings())
        shrink(net, "lora_B")
    elif name == "t5 kept":
        frozen(net, "encoder,embeddings")
    return net


def shrink(net: Any, part: str) -> None:
    """Makes up for matrices that are eight times as wide as those that these weights are drawn for."""
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if parameter.dim() > 1 and part in name:
                parameter *= 8**-0.5


def rows_of(name: str) -> list[Any]:
    """Uneven rows for it: more than one micro-batch, and of a T5 more than one group of neighbours."""
    return random_rows(LENGTHS * 2) if name.startswith("t5") else exact.random_rows(exact.SHAPES * 2)


def padded(name: str, device: torch.device, *, bf16: bool, lora: bool = False) -> Any:
    """The model as it is computed on a GPU."""
    net = net_of(name, lora=lora).to(device)
    if name.startswith("t5"):
        found: Any = PaddedNetwork(net, find_head(net), 7, autocast=bf16)
    else:
        found = PaddedCausal(net, find_head(net), 7, bf16=bf16)
    net.eval()
    return found


@contextmanager
def on_the_processor() -> Iterator[None]:
    """Within it tensors of the host are computed as in a run without a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(placement, "on_host", lambda tensor: tensor.device.type == "cpu")
        yield


@contextmanager
def waits_refused(device: torch.device, held: Sequence[Tensor] = ()) -> Iterator[None]:
    """Fails at whatever has the host wait for the device: on a GPU as torch finds it, else as we count it.

    `held` are on the host even with a GPU.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return
    with Waits([], list(held)) as waits, Copies(waits.found):
        yield
    assert waits.found == {}
