"""How a causal model is computed on the device that it is on."""

from typing import Any

from engine.contract.messages import Message
from engine.models.causal.computed import hold
from engine.models.causal.llama import LlamaNetwork, is_known
from engine.models.causal.packed import PackedCausal
from engine.models.causal.padded import PaddedCausal
from engine.models.causal.trial import reason_to_pad
from engine.models.loss import Head
from engine.models.network import Network, packs


def chosen(model: Any, head: Head | None, chunk: int, *, bf16: bool) -> Network:
    """Over rows end to end if the device and the model allow it, else padded, which is reported."""
    hold(model, bf16=bf16)
    if not packs(next(model.parameters()).device):
        return PaddedCausal(model, head, chunk, bf16=bf16)
    if head is not None and not head.biases and is_known(model):
        return LlamaNetwork(model, head, chunk, bf16=bf16)
    reason = reason_to_pad(model, head)
    if reason is None:
        return PackedCausal(model, head, chunk, bf16=bf16)
    network = PaddedCausal(model, head, chunk, bf16=bf16)
    network.notices = (Message.of("rows_padded", model=type(model).__name__, why=reason),)
    return network
