"""Calls the C code of causal attention, and of what else only models of Llama's kind compute."""

import ctypes
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.cpu.native import STRIDED, WORK_OF_AN_ELEMENT, Causal, SharedStep, address, is_half, on_threads
from engine.cpu.ragged import CausalPattern


def causal(query: Tensor, key: Tensor, value: Tensor, pattern: CausalPattern) -> tuple[Tensor, Tensor]:
    """See `Kernels.causal`."""
    out = query.new_empty(query.shape)
    sums = torch.empty(len(query), pattern.heads, dtype=torch.float32)
    _run_causal("causal", {"query": query, "key": key, "value": value, "out": out}, sums, pattern)
    return out, sums


def causal_backward(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    sums: Tensor,
    pattern: CausalPattern,
    to: Sequence[Tensor],
) -> None:
    """See `Kernels.causal_backward`."""
    d_query, d_key, d_value = to
    given = {"gradient": gradient, "query": query, "key": key, "value": value, "out": out}
    found = {"d_query": d_query, "d_key": d_key, "d_value": d_value}
    if any(found[f"d_{name}"].stride() != given[name].stride() for name in STRIDED):
        raise ValueError("gradients must lie as what they are gradients of")
    _run_causal("causal_backward", {**given, **found}, sums, pattern)


def _run_causal(name: str, tensors: Mapping[str, Tensor], sums: Tensor, pattern: CausalPattern) -> None:
    """Calls a function of causal.c, its rows and groups divided among torch's threads; raises MemoryError."""
    query, ends, lengths = tensors["query"], pattern.rows.ends, pattern.rows.lengths
    strided = (*STRIDED, "d_query", "d_key", "d_value")
    call = Causal(
        **{what: address(each, query.dtype, strided=what in strided) for what, each in tensors.items()},
        **{f"{what}_row": tensors[what].stride(0) for what in STRIDED},
        sums=address(sums, torch.float32),
        ends=ends.ctypes.data,
        rows=len(lengths),
        heads=pattern.heads,
        groups=pattern.groups,
        width=query.shape[1] // pattern.heads,
        window=pattern.window,
        half=is_half(query),
        scale=pattern.scale,
    )
    pieces = len(lengths) * pattern.groups
    work = sum(length**2 for length in lengths) * query.shape[1] // pieces
    if on_threads(name, pieces, work, ctypes.addressof(call)):
        raise MemoryError("no memory for the scores of attention")


def rotate(values: Tensor, angles: Tensor, heads: int, *, back: bool = False) -> None:
    """See `Kernels.rotate`."""
    width, turned = values.shape[1] // heads, angles.shape[1]
    numbers = (heads, width, turned, values.stride(0), back, is_half(values))
    tensors = (address(values, values.dtype, strided=True), address(angles, torch.float32))
    on_threads("rotate", len(values), values.shape[1] * WORK_OF_AN_ELEMENT, *tensors, *numbers)


def swiglu(both: Tensor) -> Tensor:
    """See `Kernels.swiglu`."""
    width = both.shape[1] // 2
    out = both.new_empty(len(both), width)
    work = both.shape[1] * WORK_OF_AN_ELEMENT
    on_threads("swiglu", len(both), work, address(both, both.dtype), out.data_ptr(), width, is_half(both))
    return out


def swiglu_backward(both: Tensor, gradient: Tensor) -> None:
    """See `Kernels.swiglu_backward`."""
    tensors = (address(both, both.dtype), address(gradient, both.dtype))
    work = both.shape[1] * WORK_OF_AN_ELEMENT
    on_threads("swiglu_backward", len(both), work, *tensors, both.shape[1] // 2, is_half(both))


def causal_step(
    given: Tensor, keys: Tensor, values: Tensor, counts: npt.NDArray[np.int64], pattern: CausalPattern
) -> Tensor:
    """See `Kernels.causal_step`."""
    rows, groups, room, width = keys.shape
    out = given.new_empty(rows, pattern.heads * width)
    side_by_side = given.shape == (rows, (pattern.heads + 2 * groups) * width) and groups == pattern.groups
    if values.shape != keys.shape or not side_by_side or len(counts) != rows:
        raise ValueError(f"{tuple(given.shape)} and {tuple(values.shape)} for keys of {tuple(keys.shape)}")
    if counts.dtype != np.int64 or counts.min() < 1 or counts.max() > room:
        raise ValueError(f"{counts.min()} to {counts.max()} of {room} {counts.dtype}")
    step = SharedStep(
        given=address(given, given.dtype),
        keys=address(keys, given.dtype),
        values=address(values, given.dtype),
        out=out.data_ptr(),
        counts=counts.ctypes.data,
        heads=pattern.heads,
        groups=groups,
        width=width,
        room=room,
        window=pattern.window,
        half=is_half(given),
        scale=pattern.scale,
    )
    work = int(counts.max()) * out.shape[1] // groups * WORK_OF_AN_ELEMENT
    if on_threads("shared_step", rows * groups, work, ctypes.addressof(step)):
        raise MemoryError("no memory for the scores of attention")
    return out
