"""T5s and rows so small that they can be computed row by row in float64, and that way of computing them."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers import MT5Config, MT5ForConditionalGeneration, T5Config, T5ForConditionalGeneration

from engine.data.token_store import Row
from engine.models import freezing
from engine.models.network import labels_of, prompts_of
from engine.models.registry import parts_of
from engine.models.t5.packed import PackedT5

# The width of all heads is not that of the model, and positions are alike from 12 tokens on.
SHAPE: dict[str, Any] = {
    "d_model": 16,
    "d_kv": 4,
    "num_heads": 3,
    "d_ff": 24,
    "vocab_size": 40,
    "num_layers": 2,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 12,
    "decoder_start_token_id": 0,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "dropout_rate": 0.0,
}
FAMILIES: dict[str, tuple[Any, Any]] = {
    "t5": (T5Config, T5ForConditionalGeneration),
    "mt5": (MT5Config, MT5ForConditionalGeneration),
}
# (prompt, label): one token here or there, the longest on either side, more than the distance that counts.
LENGTHS = ((1, 5), (7, 1), (3, 17), (20, 2), (4, 4))

Gradients = dict[str, Tensor]


def small_t5(family: str = "t5", *, untied: bool = False, seed: int = 0, **settings: Any) -> Any:
    """A model in train mode whose weights are all random, the scales of its norms too."""
    torch.manual_seed(seed)
    config, kind = FAMILIES[family]
    net = kind(config(**{**SHAPE, **settings}))
    if untied:
        net.lm_head.weight = torch.nn.Parameter(torch.randn_like(net.shared.weight) / 4)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "layer_norm" in name:
                parameter += 0.3 * torch.randn_like(parameter)
    return net.train()


def frozen(net: Any, parts: str) -> Any:
    """The model with these parts frozen and their dropout off, as a run prepares it."""
    freezing.freeze(net, parts, parts_of(net))
    freezing.set_training_mode(net)
    return net


def random_rows(lengths: Sequence[tuple[int, int]] = LENGTHS, seed: int = 0) -> list[Row]:
    """Rows with prompts and labels of these lengths."""
    generator = torch.Generator().manual_seed(seed)
    sides = zip(*lengths, strict=True)
    prompts, labels = ([torch.randint(2, 40, (n,), generator=generator) for n in side] for side in sides)
    return [pair(prompt, label) for prompt, label in zip(prompts, labels, strict=True)]


def micro_batch(rows: Sequence[Row]) -> dict[str, Tensor]:
    """Rows as transformers' own loss takes them: padding is 0, masked, and -100 among labels."""
    prompts, labels = prompts_of(rows), labels_of(rows)
    return {
        "input_ids": pad_sequence(prompts, batch_first=True),
        "attention_mask": pad_sequence([torch.ones_like(prompt) for prompt in prompts], batch_first=True),
        "labels": pad_sequence(labels, batch_first=True, padding_value=-100),
    }


def pair(prompt: Tensor, label: Tensor) -> Row:
    """A row of a prompt and its label."""
    return Row(torch.cat([prompt, label]).numpy(), ((len(prompt), len(prompt) + len(label)),))


def plain_losses(net: Any, rows: Sequence[Row]) -> list[Tensor]:
    """The summed cross-entropy of each row by itself, by transformers: no padding, no mask, no batch."""
    losses = []
    for prompt, label in zip(prompts_of(rows), labels_of(rows), strict=True):
        before = torch.cat([torch.tensor([net.config.decoder_start_token_id]), label[:-1]])
        logits = net(input_ids=prompt[None], decoder_input_ids=before[None], use_cache=False).logits[0]
        losses.append(functional.cross_entropy(logits, label, reduction="sum"))
    return losses


def gradients_of(net: Any, loss: Tensor) -> Gradients:
    """The gradient of each parameter that learns."""
    learning = freezing.trained_parameters(net)
    return dict(zip(learning, torch.autograd.grad(loss, list(learning.values())), strict=True))


def exact(net: Any, rows: Sequence[Row]) -> tuple[list[float], Gradients]:
    """Losses of the rows and the gradient of their sum in float64."""
    precise = copy.deepcopy(net).double()
    losses = plain_losses(precise, rows)
    return [loss.item() for loss in losses], gradients_of(precise, torch.stack(losses).sum())


def packed(net: Any, kind: torch.dtype = torch.float32, chunk: int = 7) -> PackedT5:
    """The model over rows laid end to end, at the beginning of a step."""
    network = PackedT5(net, kind, chunk)
    network.begin_step()
    return network


def relative_error(found: Tensor, expected: Tensor) -> float:
    """By the norm of what is expected."""
    return float((found.double() - expected).norm() / expected.norm())


def relative_errors(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, float]:
    """Of each gradient by itself."""
    assert found.keys() == expected.keys()
    return {name: relative_error(found[name], expected[name]) for name in expected}


def whole(gradients: Mapping[str, Tensor]) -> Tensor:
    """All gradients as one vector."""
    return torch.cat([gradients[name].double().flatten() for name in sorted(gradients)])
