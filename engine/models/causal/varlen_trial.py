"""Whether a causal model can be computed over rows end to end on its GPU, found out by trial before a run.

A few rows are computed forward and backward both ways, and must agree as far as bf16 does. Whatever fails, such as a
kernel that the card or this torch lacks, is a reason to pad.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.contract.texts import Phrase
from engine.contract.untrusted import one_line
from engine.data.token_store import Row
from engine.models.causal.attention import UnsupportedError
from engine.models.causal.computed import CausalNetwork
from engine.models.causal.padded import PaddedCausal
from engine.models.causal.trial import BF16, as_it_was
from engine.models.causal.varlen import VarlenCausal
from engine.models.loss import Head, keeping_token_losses

DEVICES = ("cuda",)
LENGTHS = (5, 150, 2, 9)  # a kernel takes 64 or 128 tokens at a time
LONGEST_REASON = 200  # characters
# How far gradients may be apart, relative to their norm: attention in bf16 and in fp32 gave up to 0.074 in small models
# of large weights, rows that see each other, or tokens that see what is ahead, give from 0.4 on.
GRADIENTS = 2**-3

# Of some rows: the losses of their tokens, (N,), and the gradient of their embeddings, (tokens, width), fp32.
Results = tuple[Tensor, Tensor]


def reason_to_pad(model: Any, head: Head | None, chunk: int, *, bf16: bool) -> Phrase | None:
    """Why the rows of a model must be padded on the device that it is on; None if they need not be.

    The model is left as it was.
    """
    if next(model.parameters()).device.type not in DEVICES:
        return Phrase("padded.device")
    if not bf16:
        return Phrase("padded.fp32")
    if not type(model)._can_set_attn_implementation():
        return Phrase("padded.own_attention")
    own = model.config._attn_implementation
    try:
        with as_it_was(model), torch.enable_grad():
            return _reason(model, head, chunk)
    except UnsupportedError as error:
        return Phrase(f"padded.{error}")
    except Exception as error:  # of a kernel, or of code that was not written for this: whatever it raises
        return Phrase.of("padded.failed", error=one_line(error, LONGEST_REASON))
    finally:
        model.set_attn_implementation(own)


def _reason(model: Any, head: Head | None, chunk: int) -> Phrase | None:
    rows = _rows(model)
    model.eval()
    padded = PaddedCausal(model, head, chunk, bf16=True)
    wanted = _found(padded, rows)
    packed = VarlenCausal(model, head, chunk, bf16=True)
    found = _found(packed, rows)
    for one, other, limit in zip(found, wanted, (BF16, GRADIENTS), strict=True):
        if not float((one - other).norm()) <= limit * float(other.norm()):  # a NaN is too far
            return Phrase("padded.differs")
    model.train()
    packed.row_losses(rows)  # with dropout, which raises if it is in the attention
    return None


def _rows(model: Any) -> list[Row]:
    """Rows of unequal lengths, all of whose tokens but the first are learned."""
    most = getattr(model.config, "max_position_embeddings", None) or max(LENGTHS)
    tokens, generator = len(model.get_input_embeddings().weight), np.random.default_rng(0)
    lengths = [min(length, most) for length in LENGTHS]
    return [Row(generator.integers(0, tokens, length), ((1, length),)) for length in lengths]


def _found(network: CausalNetwork, rows: Sequence[Row]) -> Results:
    """What a network computes for some rows; no weight gets a gradient."""
    embedded: list[Tensor] = []

    def held(_module: Any, _inputs: Any, output: Tensor) -> Tensor:
        embedded.append(output.detach().requires_grad_())
        return embedded[-1]

    hook = network.model.get_input_embeddings().register_forward_hook(held)
    try:
        with keeping_token_losses() as losses:
            loss = network.summed_loss(rows)
    finally:
        hook.remove()
    (gradient,) = torch.autograd.grad(loss, embedded[:1])
    lengths = [len(row.ids) for row in rows]
    parts = gradient if len(gradient) == len(rows) else gradient[0].split(lengths)
    gradients = [part[:length] for part, length in zip(parts, lengths, strict=True)]
    return torch.cat(losses).float(), torch.cat(gradients).float()
