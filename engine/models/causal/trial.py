"""Whether a causal model can be computed over rows laid end to end, found out by trial."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from engine.contract.texts import Phrase
from engine.cpu.ragged import Rows
from engine.models.causal import attention
from engine.models.causal.attention import EndToEnd, UnsupportedError, end_to_end, laid
from engine.models.loss import Head, in_its_kind

LENGTHS = (5, 9)
FP32, BF16 = 1e-4, 2**-5  # how far outputs may be apart, relative to their norm: rounding, and no other row


def reason_to_pad(model: Any, head: Head | None) -> Phrase | None:
    """Why a model cannot be computed over rows end to end; None if it can, and then its attention is set to do so.

    Rows that follow each other must have the outputs that each has alone, whichever tokens are in the other.
    """
    own = model.config._attn_implementation
    if not type(model)._can_set_attn_implementation():
        return Phrase("padded.own_attention")
    try:
        with as_it_was(model), torch.no_grad(), in_its_kind(model):
            found = _reason(model, head)
    except UnsupportedError as error:
        found = Phrase(f"padded.{error}")
    except Exception:  # of code that was not written for this: whatever it raises, it is run as it was written
        found = Phrase("padded.own_attention")
    if found is not None:
        model.set_attn_implementation(own)
    return found


def _reason(model: Any, head: Head | None) -> Phrase | None:
    weight = model.get_input_embeddings().weight
    rows = [torch.arange(length, device=weight.device).add(2).remainder(len(weight)) for length in LENGTHS]
    others = [row.flip(0) for row in rows]
    model.eval()
    alone = [_output(model, head, {"input_ids": row[None]}) for row in rows]
    model.set_attn_implementation(attention.NAME)
    if model.config._attn_implementation != attention.NAME:
        return Phrase("padded.own_attention")
    limit = BF16 if torch.is_autocast_enabled(weight.device.type) else FP32
    for pair in (rows, [others[0], rows[1]], [rows[0], others[1]]):
        for found, row, wanted, itself in zip(_together(model, head, pair), pair, alone, rows, strict=True):
            if row is itself and float((found - wanted).norm()) > limit * float(wanted.norm()):
                return Phrase("padded.differs")
    model.train()
    _together(model, head, rows)  # with dropout, which raises if it is in the attention
    return None


def _together(model: Any, head: Head | None, rows: list[Tensor]) -> list[Tensor]:
    ids, where = Rows.lay(rows)
    with laid(EndToEnd(where)):
        return list(_output(model, head, end_to_end(ids, where)).split(where.lengths))


def _output(model: Any, head: Head | None, inputs: dict[str, Tensor]) -> Tensor:
    """The output of a batch of one, (tokens, width), fp32."""
    if head is not None:
        return head.hidden(model, inputs)[0].float()
    logits: Tensor = model(**inputs, use_cache=False).logits
    return logits[0].float()


@contextmanager
def as_it_was(model: Any) -> Iterator[None]:
    """Leaves the modes of all modules, and the random numbers, as they were."""
    modes = {module: module.training for module in model.modules()}
    device = next(model.parameters()).device
    with torch.random.fork_rng(devices=[device.index or 0] if device.type == "cuda" else []):
        try:
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode
