"""Calls the training step's own C code, declared in `kernels.h` and compiled when the package was installed.

`reference.py` computes the same with torch, which takes two to three times as long if rows are short.
"""

import ctypes
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.cpu import native
from engine.cpu.compiled_causal import causal, causal_backward, causal_step, rotate, swiglu, swiglu_backward
from engine.cpu.dropout import Draw, RandomBits, Rate
from engine.cpu.native import WORK_OF_AN_ELEMENT, address, is_half, on_threads
from engine.cpu.ragged import AttentionPattern
from engine.cpu.reference import Matrix

__all__ = ["causal", "causal_backward", "causal_step", "rotate", "swiglu", "swiglu_backward"]
BLOCK = 64  # tokens whose part of a scale's gradient is summed separately
SQUARES = 1 << 14  # values whose squares are summed separately

# --- attention


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    pattern: AttentionPattern,
    rate: Rate,
    source: RandomBits,
) -> tuple[Tensor, list[Tensor]]:
    """See `Kernels.attend`; the softmax is one tensor, of all rows end to end."""
    shapes = _shapes(pattern)
    weights, out = query.new_empty(sum(map(math.prod, shapes))), query.new_empty(query.shape)
    given = {"query": query, "key": key, "value": value, "bias": bias, "weights": weights, "out": out}
    _run("attend", given, pattern, source.draw(rate, *shapes))
    return out, [weights]


def attend_backward(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    kept: list[Tensor],
    pattern: AttentionPattern,
    bias_gradient: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """See `Kernels.attend_backward`, with what `attend` kept."""
    d_query, d_key, d_value = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
    given = {"gradient": gradient, "query": query, "key": key, "value": value, "weights": kept[0]}
    found = {"d_query": d_query, "d_key": d_key, "d_value": d_value, "d_bias": bias_gradient}
    _run("attend_backward", {**given, **found}, pattern, None)
    return d_query, d_key, d_value


def attend_step(
    given: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None, counts: npt.NDArray[np.int64], heads: int
) -> Tensor:
    """Attention of one query of each row over the first `counts` of its keys, (rows, heads × width).

    `given` are the queries; with a key and a value after each, (rows, 3 × heads × width), these are first stored as the
    last of the row's `counts`. `keys` and `values` are (rows, room, heads × width), `bias` is (heads, tokens) or None.
    Raises MemoryError.
    """
    rows, room, inner = keys.shape
    kind, out = given.dtype, given.new_empty(rows, inner)
    own = given.shape[1] == 3 * inner
    if len(given) != rows or len(counts) != rows or not (own or given.shape[1] == inner) or values.shape != keys.shape:
        raise ValueError(f"{tuple(given.shape)} and {tuple(values.shape)} for keys of {tuple(keys.shape)}")
    side = room if bias is None else bias.shape[1]
    if counts.dtype != np.int64 or counts.min() < 1 or counts.max() > min(room, side):
        raise ValueError(f"{counts.min()} to {counts.max()} of {min(room, side)} {counts.dtype}")
    step = native.Step(
        **{
            name: address(each, kind)
            for name, each in (("given", given), ("keys", keys), ("values", values), ("out", out))
        },
        bias=None if bias is None else address(bias, torch.float32),
        counts=counts.ctypes.data,
        heads=heads,
        width=inner // heads,
        room=room,
        side=side,
        own=own,
        half=is_half(given),
    )
    if on_threads("attend_step", rows, int(counts.max()) * inner * WORK_OF_AN_ELEMENT, ctypes.addressof(step)):
        raise MemoryError("no memory for the scores of attention")
    return out


def _shapes(pattern: AttentionPattern) -> list[tuple[int, int, int]]:
    """The shape of each row's attention weights."""
    pairs = zip(pattern.queries.lengths, pattern.keys.lengths, strict=True)
    return [(pattern.heads, queries, keys) for queries, keys in pairs]


def _run(name: str, tensors: Mapping[str, Tensor | None], pattern: AttentionPattern, draw: Draw | None) -> None:
    """Calls a function of the library, its heads divided among as many threads as torch uses; raises MemoryError."""
    given = {what: tensor for what, tensor in tensors.items() if tensor is not None}
    query, queries, keys = given["query"], pattern.queries.ends, pattern.keys.ends
    call = native.Call(
        **{
            what: address(tensor, native.OTHERS.get(what, query.dtype), strided=what in native.STRIDED)
            for what, tensor in given.items()
        },
        **{f"{what}_row": given[what].stride(0) for what in native.STRIDED},
        queries=queries.ctypes.data,
        keys=keys.ctypes.data,
        rows=len(pattern.queries.lengths),
        heads=pattern.heads,
        width=query.shape[1] // pattern.heads,
        side=max((given[what].shape[1] for what in ("bias", "d_bias") if what in given), default=0),
        **dict(zip(("dropped", "seed", "word"), _bits(draw), strict=True)),
        half=is_half(query),
        causal=pattern.causal,
    )
    work = sum(map(math.prod, _shapes(pattern))) // pattern.heads * call.width
    if on_threads(name, pattern.heads, work, ctypes.addressof(call)):
        raise MemoryError("no memory for the scores of attention")


# --- between the matrix products


def normed(x: Tensor, scale: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    """See `Kernels.normed`."""
    plain, scaled = (torch.empty_like(x, dtype=scale.dtype) for _ in range(2))
    inverse = x.new_empty(len(x), 1)
    tensors = (address(x, torch.float32), *(address(each, scale.dtype) for each in (scale, plain, scaled)))
    numbers = (x.shape[1], epsilon, is_half(scale))
    on_threads("normed", len(x), x.shape[1] * WORK_OF_AN_ELEMENT, *tensors, address(inverse, torch.float32), *numbers)
    return plain, scaled, inverse


def normed_backward(
    gradient: Tensor, plain: Tensor, inverse: Tensor, scale: Tensor, bypass: Tensor, *, scale_learns: bool
) -> tuple[Tensor, Tensor | None]:
    """See `Kernels.normed_backward`."""
    scale = scale.to(inverse.dtype)
    bypass = bypass.contiguous()  # autograd may pass a single number expanded to the whole shape
    tokens, width = plain.shape
    blocks, d_x = -(-tokens // BLOCK), torch.empty_like(bypass)
    parts = bypass.new_zeros(blocks, width) if scale_learns else None
    values = (address(each, plain.dtype) for each in (gradient, plain))
    precise = (None if each is None else address(each, torch.float32) for each in (inverse, scale, bypass, d_x, parts))
    work = BLOCK * width * WORK_OF_AN_ELEMENT
    on_threads("normed_backward", blocks, work, *values, *precise, width, tokens, BLOCK, is_half(plain))
    return d_x, None if parts is None else parts.sum(dim=0)


def residual(x: Tensor, y: Tensor, draw: Draw | None, factor: float) -> Tensor:
    """See `Kernels.residual`."""
    out = torch.empty_like(x)
    tensors = (address(x, torch.float32), address(y, y.dtype), out.data_ptr())
    _by_row("residual", y, *tensors, factor, *_bits(draw))
    return out


def kept(x: Tensor, draw: Draw | None, factor: float, kind: torch.dtype) -> Tensor:
    """See `Kernels.kept`."""
    x = x.contiguous()
    out = torch.empty_like(x, dtype=kind)
    _by_row("kept", out, address(x, torch.float32), out.data_ptr(), factor, *_bits(draw))
    return out


def relu_dropped(hidden: Tensor, draw: Draw | None) -> Tensor:
    """See `Kernels.relu_dropped`."""
    _by_row("relu_dropped", hidden, address(hidden, hidden.dtype), *_bits(draw))
    return hidden


def _by_row(name: str, values: Tensor, *given: Any) -> None:
    """Applies a function to each element of (rows, width)."""
    rows, width = values.shape
    on_threads(name, rows, width * WORK_OF_AN_ELEMENT, *given, width, is_half(values))


def _bits(draw: Draw | None) -> tuple[int, int, int]:
    """The arguments that describe random bits to C; nothing is dropped if there are none."""
    return (0, 0, 0) if draw is None else (draw.dropped, draw.seed, draw.first)


# --- the loss


def losses(logits: Tensor, labels: Tensor, *, gradient: bool) -> Tensor:
    """Cross-entropy of each token in fp32 and, if requested, its gradient by the logits, which replaces them.

    Raises IndexError if a label is not the number of a logit.
    """
    found = torch.empty(len(logits), dtype=torch.float32)
    tensors = (address(logits, logits.dtype), address(labels, torch.int64), found.data_ptr())
    size = logits.shape[1]
    ended = on_threads("losses", len(logits), size * WORK_OF_AN_ELEMENT, *tensors, size, gradient, is_half(logits))
    if ended == -2:
        raise IndexError(f"a label is not one of {size} tokens")
    if ended:
        raise MemoryError("no memory for the losses")
    return found


def largest(logits: Tensor) -> Tensor:
    """The index of the first of each row's greatest logits, int64; arbitrary if one is NaN."""
    found, size = torch.empty(len(logits), dtype=torch.int64), logits.shape[1]
    tensors = (address(logits, logits.dtype), found.data_ptr())
    on_threads("largest", len(logits), size, *tensors, size, is_half(logits))
    return found


# --- gradients and updates


def add_(total: Tensor, part: Tensor) -> None:
    """Adds values in bf16 to a total in fp32."""
    on_threads("add", total.numel(), WORK_OF_AN_ELEMENT, address(total, torch.float32), address(part, torch.bfloat16))


def squares(values: Tensor) -> float:
    """The sum of the squares of values in fp32, in double; the same to the last bit with any number of threads."""
    blocks = -(-values.numel() // SQUARES)
    found = np.empty(blocks)
    on_threads("squares", blocks, SQUARES, address(values, torch.float32), found.ctypes.data, values.numel(), SQUARES)
    return float(found.sum())


def adafactor(matrices: Sequence[Matrix]) -> list[bool]:
    """Updates matrices and their second moments; False for one left unchanged because its moment would be clamped.

    Raises MemoryError.
    """
    given, left = (native.Matrix * len(matrices))(), np.zeros(len(matrices), np.int64)
    for one, matrix in zip(given, matrices, strict=True):
        one.rows, one.columns = matrix.parameter.shape
        if matrix.row_var.shape != (one.rows, 1) or matrix.col_var.shape != (1, one.columns):
            raise ValueError(f"{matrix.row_var.shape} and {matrix.col_var.shape} for {matrix.parameter.shape}")
        for name in native.TENSORS:
            setattr(one, name, address(getattr(matrix, name), torch.float32))
        for name in native.RATES:
            setattr(one, name, getattr(matrix, name))
    work = sum(matrix.parameter.numel() for matrix in matrices) * WORK_OF_AN_ELEMENT // max(1, len(matrices))
    if on_threads("adafactor", len(matrices), work, ctypes.addressof(given), left.ctypes.data):
        raise MemoryError("no memory for the sums of Adafactor")
    return [not flag for flag in left]
