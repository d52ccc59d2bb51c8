"""Calls the training step's own C code, declared in `kernels.h` and compiled when the package was installed.

`reference.py` computes the same with torch, which takes two to three times as long if rows are short.
"""

import ctypes
import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.contract import native_library
from engine.cpu.dropout import Draw, RandomBits, Rate
from engine.cpu.ragged import AttentionPattern, CausalPattern
from engine.cpu.reference import Matrix

WORK_FOR_A_THREAD = 1_000_000  # multiplications in 20 µs, about the time in which another thread wakes up
WORK_OF_AN_ELEMENT = 8  # in multiplications, for an operation done once per element
BLOCK = 64  # tokens whose part of a scale's gradient is summed separately
SQUARES = 1 << 14  # values whose squares are summed separately
_VALUES = ("query", "key", "value", "gradient", "out", "d_query", "d_key", "d_value", "weights")
_OTHERS = {"bias": torch.float32, "d_bias": torch.float32}
_STRIDED = ("query", "key", "value")  # their tokens may be slices of longer rows
_NUMBERS = (
    "rows",
    "heads",
    "width",
    "side",
    "dropped",
    "seed",
    "word",
    "half",
    "causal",
    *(f"{name}_row" for name in _STRIDED),
)


class _Call(ctypes.Structure):
    """`struct call` of kernels.h."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in (*_VALUES, *_OTHERS, "queries", "keys")),
        *((name, ctypes.c_int64) for name in _NUMBERS),
    ]


_OF_TOKENS = ("query", "key", "value", "gradient", "out", "d_query", "d_key", "d_value")


class _Causal(ctypes.Structure):
    """`struct causal` of kernels.h."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in (*_OF_TOKENS, "sums", "ends")),
        *((name, ctypes.c_int64) for name in ("rows", "heads", "groups", "width", "window", "half")),
        *((f"{name}_row", ctypes.c_int64) for name in _STRIDED),
        ("scale", ctypes.c_double),
    ]


class _Step(ctypes.Structure):
    """`struct step` of kernels.h."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("given", "keys", "values", "out", "bias", "counts")),
        *((name, ctypes.c_int64) for name in ("heads", "width", "room", "side", "own", "half")),
    ]


class _SharedStep(ctypes.Structure):
    """`struct shared_step` of kernels.h."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("query", "keys", "values", "out", "counts")),
        *((name, ctypes.c_int64) for name in ("heads", "groups", "width", "room", "window", "query_row", "half")),
        ("scale", ctypes.c_double),
    ]


_TENSORS, _RATES = (
    ("parameter", "row_var", "col_var", "gradient"),
    ("weight", "least", "smallest", "rate", "decay", "most"),
)


class _Matrix(ctypes.Structure):
    """`struct matrix` of kernels.h."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in _TENSORS),
        *((name, ctypes.c_int64) for name in ("rows", "columns")),
        *((name, ctypes.c_double) for name in _RATES),
    ]


_LAYOUTS: dict[type[ctypes.Structure], str] = {
    _Call: "call",
    _Causal: "causal",
    _Step: "step",
    _SharedStep: "shared_step",
    _Matrix: "matrix",
}
_P, _I, _F = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
# The arguments of each function before `pieces` and `parts`, the number of pieces of work and of threads' shares.
_SIGNATURES = {
    "attend": (_P,),
    "attend_backward": (_P,),
    "attend_step": (_P,),
    "causal": (_P,),
    "shared_step": (_P,),
    "causal_backward": (_P,),
    "rotate": (_P, _P, _I, _I, _I, _I, _I, _I),
    "swiglu": (_P, _P, _I, _I),
    "swiglu_backward": (_P, _P, _I, _I),
    "normed": (_P, _P, _P, _P, _P, _I, _F, _I),
    "normed_backward": (_P, _P, _P, _P, _P, _P, _P, _I, _I, _I, _I),
    "residual": (_P, _P, _P, _F, _I, _I, _I, _I, _I),
    "kept": (_P, _P, _F, _I, _I, _I, _I, _I),
    "relu_dropped": (_P, _I, _I, _I, _I, _I),
    "losses": (_P, _P, _P, _I, _I, _I),
    "largest": (_P, _P, _I, _I),
    "add": (_P, _P),
    "squares": (_P, _P, _I, _I),
    "adafactor": (_P, _P),
}


def kind() -> str:
    """The kind of processor that the code in use was compiled for; "none" if no compiled code is in use."""
    return next((each for each in _kinds() if _loaded(each) is not None), "none")


def library() -> ctypes.CDLL | None:
    """The code compiled for processors like this one; None if there is none."""
    return next((found for each in _kinds() if (found := _loaded(each)) is not None), None)


@cache
def _loaded(kind: str) -> ctypes.CDLL | None:
    found = native_library.library(kind)
    return None if isinstance(found, native_library.Fault) else prepared(found)


def prepared(found: ctypes.CDLL) -> ctypes.CDLL:
    """A library with its functions' argument types set; raises RuntimeError if its structs are not these."""
    for name, signature in _SIGNATURES.items():
        getattr(found, name).argtypes = (*signature, _I, _I)
    for struct, name in _LAYOUTS.items():
        _require_layout(found, struct, name)
    return found


class _Member(ctypes.Structure):
    """`struct member` of library.c."""

    _fields_ = [("name", ctypes.c_char_p), ("at", ctypes.c_int64)]


def _require_layout(found: ctypes.CDLL, struct: type[ctypes.Structure], name: str) -> None:
    """Raises RuntimeError if a struct's memory layout differs from the one in the compiled code."""
    members = [member[0] for member in struct._fields_]
    ours = {**{member: getattr(struct, member).offset for member in members}, "": ctypes.sizeof(struct)}
    listed = (_Member * len(ours)).in_dll(found, f"layout_of_{name}")
    theirs = {(member.name or b"").decode(): member.at for member in listed}
    if ours != theirs:
        raise RuntimeError(f"struct {name} of kernels.h lies at {theirs} in memory, and at {ours} here")


@cache
def _kinds() -> tuple[str, ...]:
    """Kinds of code for this processor, without those that ATEN_CPU_CAPABILITY rules out for torch."""
    allowed = {"AVX512": ("avx512", "avx2"), "AVX2": ("avx2",)}.get(torch.backends.cpu.get_cpu_capability(), ())
    return tuple(kind for kind in native_library.kinds() if kind in allowed)


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
    if any(found[f"d_{name}"].stride() != given[name].stride() for name in _STRIDED):
        raise ValueError("gradients must lie as what they are gradients of")
    _run_causal("causal_backward", {**given, **found}, sums, pattern)


def _run_causal(name: str, tensors: Mapping[str, Tensor], sums: Tensor, pattern: CausalPattern) -> None:
    """Calls a function of causal.c, its rows and groups divided among torch's threads; raises MemoryError."""
    query, ends, lengths = tensors["query"], pattern.rows.ends, pattern.rows.lengths
    strided = (*_STRIDED, "d_query", "d_key", "d_value")
    call = _Causal(
        **{what: _address(each, query.dtype, strided=what in strided) for what, each in tensors.items()},
        **{f"{what}_row": tensors[what].stride(0) for what in _STRIDED},
        sums=_address(sums, torch.float32),
        ends=ends.ctypes.data,
        rows=len(lengths),
        heads=pattern.heads,
        groups=pattern.groups,
        width=query.shape[1] // pattern.heads,
        window=pattern.window,
        half=_half(query),
        scale=pattern.scale,
    )
    pieces = len(lengths) * pattern.groups
    work = sum(length**2 for length in lengths) * query.shape[1] // pieces
    if _on_threads(name, pieces, work, ctypes.addressof(call)):
        raise MemoryError("no memory for the scores of attention")


def rotate(values: Tensor, angles: Tensor, heads: int, *, back: bool = False) -> None:
    """See `Kernels.rotate`."""
    width, turned = values.shape[1] // heads, angles.shape[1]
    numbers = (heads, width, turned, values.stride(0), back, _half(values))
    tensors = (_address(values, values.dtype, strided=True), _address(angles, torch.float32))
    _on_threads("rotate", len(values), values.shape[1] * WORK_OF_AN_ELEMENT, *tensors, *numbers)


def swiglu(both: Tensor) -> Tensor:
    """See `Kernels.swiglu`."""
    width = both.shape[1] // 2
    out = both.new_empty(len(both), width)
    work = both.shape[1] * WORK_OF_AN_ELEMENT
    _on_threads("swiglu", len(both), work, _address(both, both.dtype), out.data_ptr(), width, _half(both))
    return out


def swiglu_backward(both: Tensor, gradient: Tensor) -> None:
    """See `Kernels.swiglu_backward`."""
    tensors = (_address(both, both.dtype), _address(gradient, both.dtype))
    work = both.shape[1] * WORK_OF_AN_ELEMENT
    _on_threads("swiglu_backward", len(both), work, *tensors, both.shape[1] // 2, _half(both))


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
    step = _Step(
        **{
            name: _address(each, kind)
            for name, each in (("given", given), ("keys", keys), ("values", values), ("out", out))
        },
        bias=None if bias is None else _address(bias, torch.float32),
        counts=counts.ctypes.data,
        heads=heads,
        width=inner // heads,
        room=room,
        side=side,
        own=own,
        half=_half(given),
    )
    if _on_threads("attend_step", rows, int(counts.max()) * inner * WORK_OF_AN_ELEMENT, ctypes.addressof(step)):
        raise MemoryError("no memory for the scores of attention")
    return out


def causal_step(
    query: Tensor, keys: Tensor, values: Tensor, counts: npt.NDArray[np.int64], pattern: CausalPattern
) -> Tensor:
    """See `Kernels.causal_step`."""
    rows, groups, room, width = keys.shape
    out = query.new_empty(query.shape)
    whole = values.shape == keys.shape and query.shape == (rows, pattern.heads * width) and groups == pattern.groups
    if not whole or len(counts) != rows:
        raise ValueError(f"{tuple(query.shape)} and {tuple(values.shape)} for keys of {tuple(keys.shape)}")
    if counts.dtype != np.int64 or counts.min() < 1 or counts.max() > room:
        raise ValueError(f"{counts.min()} to {counts.max()} of {room} {counts.dtype}")
    step = _SharedStep(
        query=_address(query, query.dtype, strided=True),
        keys=_address(keys, query.dtype),
        values=_address(values, query.dtype),
        out=out.data_ptr(),
        counts=counts.ctypes.data,
        heads=pattern.heads,
        groups=groups,
        width=width,
        room=room,
        window=pattern.window,
        query_row=query.stride(0),
        half=_half(query),
        scale=pattern.scale,
    )
    work = int(counts.max()) * query.shape[1] // groups * WORK_OF_AN_ELEMENT
    if _on_threads("shared_step", rows * groups, work, ctypes.addressof(step)):
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
    call = _Call(
        **{
            what: _address(tensor, _OTHERS.get(what, query.dtype), strided=what in _STRIDED)
            for what, tensor in given.items()
        },
        **{f"{what}_row": given[what].stride(0) for what in _STRIDED},
        queries=queries.ctypes.data,
        keys=keys.ctypes.data,
        rows=len(pattern.queries.lengths),
        heads=pattern.heads,
        width=query.shape[1] // pattern.heads,
        side=max((given[what].shape[1] for what in ("bias", "d_bias") if what in given), default=0),
        **dict(zip(("dropped", "seed", "word"), _bits(draw), strict=True)),
        half=_half(query),
        causal=pattern.causal,
    )
    work = sum(map(math.prod, _shapes(pattern))) // pattern.heads * call.width
    if _on_threads(name, pattern.heads, work, ctypes.addressof(call)):
        raise MemoryError("no memory for the scores of attention")


# --- between the matrix products


def normed(x: Tensor, scale: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    """See `Kernels.normed`."""
    plain, scaled = (torch.empty_like(x, dtype=scale.dtype) for _ in range(2))
    inverse = x.new_empty(len(x), 1)
    tensors = (_address(x, torch.float32), *(_address(each, scale.dtype) for each in (scale, plain, scaled)))
    numbers = (x.shape[1], epsilon, _half(scale))
    _on_threads("normed", len(x), x.shape[1] * WORK_OF_AN_ELEMENT, *tensors, _address(inverse, torch.float32), *numbers)
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
    values = (_address(each, plain.dtype) for each in (gradient, plain))
    precise = (None if each is None else _address(each, torch.float32) for each in (inverse, scale, bypass, d_x, parts))
    work = BLOCK * width * WORK_OF_AN_ELEMENT
    _on_threads("normed_backward", blocks, work, *values, *precise, width, tokens, BLOCK, _half(plain))
    return d_x, None if parts is None else parts.sum(dim=0)


def residual(x: Tensor, y: Tensor, draw: Draw | None, factor: float) -> Tensor:
    """See `Kernels.residual`."""
    out = torch.empty_like(x)
    tensors = (_address(x, torch.float32), _address(y, y.dtype), out.data_ptr())
    _by_row("residual", y, *tensors, factor, *_bits(draw))
    return out


def kept(x: Tensor, draw: Draw | None, factor: float, kind: torch.dtype) -> Tensor:
    """See `Kernels.kept`."""
    x = x.contiguous()
    out = torch.empty_like(x, dtype=kind)
    _by_row("kept", out, _address(x, torch.float32), out.data_ptr(), factor, *_bits(draw))
    return out


def relu_dropped(hidden: Tensor, draw: Draw | None) -> Tensor:
    """See `Kernels.relu_dropped`."""
    _by_row("relu_dropped", hidden, _address(hidden, hidden.dtype), *_bits(draw))
    return hidden


def _by_row(name: str, values: Tensor, *given: Any) -> None:
    """Applies a function to each element of (rows, width)."""
    rows, width = values.shape
    _on_threads(name, rows, width * WORK_OF_AN_ELEMENT, *given, width, _half(values))


def _bits(draw: Draw | None) -> tuple[int, int, int]:
    """The arguments that describe random bits to C; nothing is dropped if there are none."""
    return (0, 0, 0) if draw is None else (draw.dropped, draw.seed, draw.first)


# --- the loss


def losses(logits: Tensor, labels: Tensor, *, gradient: bool) -> Tensor:
    """Cross-entropy of each token in fp32 and, if requested, its gradient by the logits, which replaces them.

    Raises IndexError if a label is not the number of a logit.
    """
    found = torch.empty(len(logits), dtype=torch.float32)
    tensors = (_address(logits, logits.dtype), _address(labels, torch.int64), found.data_ptr())
    size = logits.shape[1]
    ended = _on_threads("losses", len(logits), size * WORK_OF_AN_ELEMENT, *tensors, size, gradient, _half(logits))
    if ended == -2:
        raise IndexError(f"a label is not one of {size} tokens")
    if ended:
        raise MemoryError("no memory for the losses")
    return found


def largest(logits: Tensor) -> Tensor:
    """The index of the first of each row's greatest logits, int64; arbitrary if one is NaN."""
    found, size = torch.empty(len(logits), dtype=torch.int64), logits.shape[1]
    tensors = (_address(logits, logits.dtype), found.data_ptr())
    _on_threads("largest", len(logits), size, *tensors, size, _half(logits))
    return found


# --- gradients and updates


def add_(total: Tensor, part: Tensor) -> None:
    """Adds values in bf16 to a total in fp32."""
    _on_threads(
        "add", total.numel(), WORK_OF_AN_ELEMENT, _address(total, torch.float32), _address(part, torch.bfloat16)
    )


def squares(values: Tensor) -> float:
    """The sum of the squares of values in fp32, in double; the same to the last bit with any number of threads."""
    blocks = -(-values.numel() // SQUARES)
    found = np.empty(blocks)
    _on_threads("squares", blocks, SQUARES, _address(values, torch.float32), found.ctypes.data, values.numel(), SQUARES)
    return float(found.sum())


def adafactor(matrices: Sequence[Matrix]) -> list[bool]:
    """Updates matrices and their second moments; False for one left unchanged because its moment would be clamped.

    Raises MemoryError.
    """
    given, left = (_Matrix * len(matrices))(), np.zeros(len(matrices), np.int64)
    for one, matrix in zip(given, matrices, strict=True):
        one.rows, one.columns = matrix.parameter.shape
        if matrix.row_var.shape != (one.rows, 1) or matrix.col_var.shape != (1, one.columns):
            raise ValueError(f"{matrix.row_var.shape} and {matrix.col_var.shape} for {matrix.parameter.shape}")
        for name in _TENSORS:
            setattr(one, name, _address(getattr(matrix, name), torch.float32))
        for name in _RATES:
            setattr(one, name, getattr(matrix, name))
    work = sum(matrix.parameter.numel() for matrix in matrices) * WORK_OF_AN_ELEMENT // max(1, len(matrices))
    if _on_threads("adafactor", len(matrices), work, ctypes.addressof(given), left.ctypes.data):
        raise MemoryError("no memory for the sums of Adafactor")
    return [not flag for flag in left]


# --- shared helpers


def _on_threads(name: str, pieces: int, work: int, *given: Any) -> int:
    """Runs a function over `pieces` pieces of `work` multiplications each on torch's threads; its result.

    Uses all of the threads or one: for a smaller team OpenMP would end the others, and start them again for torch.
    """
    parts = torch.get_num_threads() if pieces * work >= 2 * WORK_FOR_A_THREAD else 1
    result: int = getattr(library(), name)(*given, pieces, parts)
    return result


def _half(values: Tensor) -> bool:
    return values.dtype == torch.bfloat16


def _address(tensor: Tensor, kind: torch.dtype, *, strided: bool = False) -> int:
    """The address of a tensor or, if `strided`, of its first row; raises ValueError if C would misread its values."""
    whole = tensor.is_contiguous() or (strided and tensor.dim() == 2 and tensor.stride(1) == 1)
    if tensor.dtype != kind or tensor.device.type != "cpu" or not whole:
        raise ValueError(f"{tensor.dtype} on {tensor.device}, strides {tensor.stride()}: {kind} end to end is needed")
    return tensor.data_ptr()
