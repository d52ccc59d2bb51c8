"""The compiled C code: loaded, its structs and functions as `kernels.h` declares them, and run on torch's threads."""

import ctypes
from functools import cache
from typing import Any

import torch
from torch import Tensor

from engine.contract import native_library

WORK_FOR_A_THREAD = 1_000_000  # multiplications in 20 µs, about the time in which another thread wakes up
WORK_OF_AN_ELEMENT = 8  # in multiplications, for an operation done once per element
_VALUES = ("query", "key", "value", "gradient", "out", "d_query", "d_key", "d_value", "weights")
OTHERS = {"bias": torch.float32, "d_bias": torch.float32}
STRIDED = ("query", "key", "value")  # their tokens may be slices of longer rows
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
    *(f"{name}_row" for name in STRIDED),
)


class Call(ctypes.Structure):
    """`struct call` of kernels.h."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in (*_VALUES, *OTHERS, "queries", "keys")),
        *((name, ctypes.c_int64) for name in _NUMBERS),
    ]


_OF_TOKENS = ("query", "key", "value", "gradient", "out", "d_query", "d_key", "d_value")


class Causal(ctypes.Structure):
    """`struct causal` of kernels.h."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in (*_OF_TOKENS, "sums", "ends")),
        *((name, ctypes.c_int64) for name in ("rows", "heads", "groups", "width", "window", "half")),
        *((f"{name}_row", ctypes.c_int64) for name in STRIDED),
        ("scale", ctypes.c_double),
    ]


class Step(ctypes.Structure):
    """`struct step` of kernels.h."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("given", "keys", "values", "out", "bias", "counts")),
        *((name, ctypes.c_int64) for name in ("heads", "width", "room", "side", "own", "half")),
    ]


class SharedStep(ctypes.Structure):
    """`struct shared_step` of kernels.h."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("given", "keys", "values", "out", "counts")),
        *((name, ctypes.c_int64) for name in ("heads", "groups", "width", "room", "window", "half")),
        ("scale", ctypes.c_double),
    ]


TENSORS, RATES = (
    ("parameter", "row_var", "col_var", "gradient"),
    ("weight", "least", "smallest", "rate", "decay", "most"),
)


class Matrix(ctypes.Structure):
    """`struct matrix` of kernels.h."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in TENSORS),
        *((name, ctypes.c_int64) for name in ("rows", "columns")),
        *((name, ctypes.c_double) for name in RATES),
    ]


LAYOUTS: dict[type[ctypes.Structure], str] = {
    Call: "call",
    Causal: "causal",
    Step: "step",
    SharedStep: "shared_step",
    Matrix: "matrix",
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
    for struct, name in LAYOUTS.items():
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


def on_threads(name: str, pieces: int, work: int, *given: Any) -> int:
    """Runs a function over `pieces` pieces of `work` multiplications each on torch's threads; its result.

    Uses all of the threads or one: for a smaller team OpenMP would end the others, and start them again for torch.
    """
    parts = torch.get_num_threads() if pieces * work >= 2 * WORK_FOR_A_THREAD else 1
    result: int = getattr(library(), name)(*given, pieces, parts)
    return result


def is_half(values: Tensor) -> bool:
    """Whether values are bf16, an argument of the functions."""
    return values.dtype == torch.bfloat16


def address(tensor: Tensor, kind: torch.dtype, *, strided: bool = False) -> int:
    """The address of a tensor or, if `strided`, of its first row; raises ValueError if C would misread its values."""
    whole = tensor.is_contiguous() or (strided and tensor.dim() == 2 and tensor.stride(1) == 1)
    if tensor.dtype != kind or tensor.device.type != "cpu" or not whole:
        raise ValueError(f"{tensor.dtype} on {tensor.device}, strides {tensor.stride()}: {kind} end to end is needed")
    return tensor.data_ptr()
