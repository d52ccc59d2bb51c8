"""Small causal models whose weights are all random, rows with several learned spans, and both in float64."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from engine.data.token_store import Row
from engine.models.freezing import trained_parameters
from engine.models.on_device import find_head, network_of
from tests.engine.models.causal.small import model

SLIDING = {"sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"]}
NO_DROPOUT = {"attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0}
MODELS: dict[str, dict[str, Any]] = {  # grouped heads, norms of heads, windows, layer norms, a table of positions
    "llama": {},
    "qwen3": {"head_dim": 8},
    "gemma3_text": {"head_dim": 8, **SLIDING},
    "phi": {},
    "gpt2": NO_DROPOUT,
}
# Lengths and learned spans: several of them, the whole row, one token, more tokens than a window has.
SHAPES = ((7, ((3, 7),)), (20, ((2, 6), (9, 14), (17, 20))), (3, ((1, 2),)), (12, ((1, 12),)), (2, ((1, 2),)))


def drawn(model_type: str, **more: Any) -> Any:
    """A small model in eval mode, whose weights are so large that every part of it counts."""
    net = model(model_type, **{**MODELS.get(model_type, {}), **more}).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.3)
            else:
                parameter += 0.3 * torch.randn_like(parameter)
    return net


def random_rows(shapes: Sequence[tuple[int, tuple[tuple[int, int], ...]]] = SHAPES, seed: int = 0) -> list[Row]:
    """Rows of these lengths with these learned spans."""
    generator = np.random.default_rng(seed)
    return [Row(generator.integers(3, 40, length), spans) for length, spans in shapes]


def random_prompts(lengths: Sequence[int], seed: int = 0) -> list[Tensor]:
    """Prompts of these lengths."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, 40, (length,), generator=generator) for length in lengths]


def network(net: Any, *, bf16: bool = False, chunk: int = 5) -> Any:
    """How the model is computed here."""
    found = network_of(net, find_head(net), chunk, bf16=bf16)
    found.begin_step()
    return found


def exact(net: Any, rows: Sequence[Row]) -> tuple[list[float], dict[str, Tensor]]:
    """The loss of each row alone, and the gradient of their sum, in float64 by eager attention."""
    precise = copy.deepcopy(net).double()
    precise.set_attn_implementation("eager")
    precise.config._experts_implementation = "eager"
    losses = []
    for row in rows:
        ids = torch.from_numpy(row.ids)
        logits = precise(input_ids=ids[None], use_cache=False).logits[0]
        spans = [functional.cross_entropy(logits[a - 1 : b - 1], ids[a:b], reduction="sum") for a, b in row.spans]
        losses.append(torch.stack(spans).sum())
    return [loss.item() for loss in losses], gradients_of(precise, torch.stack(losses).sum())


def gradients_of(net: Any, loss: Tensor) -> dict[str, Tensor]:
    """The gradient of each parameter that learns, as a step finds it."""
    learning = trained_parameters(net)
    net.zero_grad()
    loss.backward()
    found = {name: parameter.grad for name, parameter in learning.items() if parameter.grad is not None}
    net.zero_grad()
    return found


def apart(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """How far gradients are from those that are expected, relative to the norm of all of these."""
    assert found.keys() == expected.keys()
    off, whole = (
        torch.stack([part.norm() for part in parts]).norm()
        for parts in ([found[name].double() - expected[name] for name in expected], expected.values())
    )
    return float(off / whole)
