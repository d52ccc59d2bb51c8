"""How a causal model is computed on the device that it is on."""

from typing import Any

from engine.contract.messages import Message
from engine.contract.texts import Phrase
from engine.models.causal import varlen_trial
from engine.models.causal.computed import hold
from engine.models.causal.llama import LlamaNetwork, is_known
from engine.models.causal.packed import PackedCausal
from engine.models.causal.padded import PaddedCausal
from engine.models.causal.trial import reason_to_pad
from engine.models.causal.varlen import VarlenCausal
from engine.models.loss import Head
from engine.models.network import ALONE, Agreement, Network, packs


def chosen(model: Any, head: Head | None, chunk: int, *, bf16: bool, agreement: Agreement | None = None) -> Network:
    """Over rows end to end if the device and the model allow it, else padded, which is reported."""
    hold(model, bf16=bf16)
    if not packs(next(model.parameters()).device):
        return _on_gpu(model, head, chunk, agreement or ALONE, bf16=bf16)
    if head is not None and not head.biases and is_known(model):
        return LlamaNetwork(model, head, chunk, bf16=bf16)
    reason = reason_to_pad(model, head)
    if reason is None:
        return PackedCausal(model, head, chunk, bf16=bf16)
    return _padded(model, head, chunk, reason, bf16=bf16)


def _on_gpu(model: Any, head: Head | None, chunk: int, agreement: Agreement, *, bf16: bool) -> Network:
    reason = agreement.reason_to_pad(lambda: varlen_trial.reason_to_pad(model, head, chunk, bf16=bf16))
    if reason is None:
        return VarlenCausal(model, head, chunk, bf16=bf16)
    return _padded(model, head, chunk, reason, bf16=bf16)


def _padded(model: Any, head: Head | None, chunk: int, reason: Phrase, *, bf16: bool) -> PaddedCausal:
    network = PaddedCausal(model, head, chunk, bf16=bf16)
    network.notices = (Message.of("rows_padded", model=type(model).__name__, why=reason),)
    return network
