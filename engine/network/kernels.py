"""The training step's own code in C (`kernels.c`), where it could be compiled when the package was installed.

`attention.py` computes the same by torch, in two to three times as long where rows are short.
"""

import ctypes
import importlib.util
import itertools
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.network.dropout import Rate, Source
from engine.network.rows import Rows, Sight

KINDS = (torch.float32, torch.bfloat16)
WORTH_A_THREAD = 1_000_000  # multiplications of a product: 20 µs, in which another thread has hardly woken
_VALUES = ("query", "key", "value", "gradient", "out", "d_query", "d_key", "d_value", "weights")
_OTHERS = {"bias": torch.float32, "d_bias": torch.float32, "words": torch.int16}
_NUMBERS = ("rows", "heads", "width", "side", "dropped", "half", "causal")


class _Call(ctypes.Structure):
    """`struct call` of kernels.c."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in (*_VALUES, *_OTHERS, "queries", "keys")),
        *((name, ctypes.c_int64) for name in _NUMBERS),
    ]


def kind() -> str:
    """The processors that the code in use was compiled for; "none" where there is none."""
    return _instructions() if library() is not None else "none"


@cache
def library() -> ctypes.CDLL | None:
    """The code that was compiled for processors like this one; None where there is none."""
    found = importlib.util.find_spec(f"engine.network._kernels_{_instructions()}")
    if found is None or found.origin is None:
        return None
    library = ctypes.CDLL(found.origin)
    for function in (library.attend, library.attend_backward):
        function.argtypes = (ctypes.POINTER(_Call), ctypes.c_int64, ctypes.c_int64)
    return library


def _instructions() -> str:
    return str(torch.backends.cpu.get_cpu_capability()).lower()


def serve(query: Tensor) -> bool:
    """Whether there is compiled code for queries of this kind."""
    return query.dtype in KINDS and query.device.type == "cpu" and library() is not None


def attend(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, sight: Sight, rate: Rate, source: Source
) -> tuple[Tensor, list[Tensor]]:
    """As `attention.attend`; the softmax is one tensor, of all rows end to end."""
    sizes = _sizes(sight)
    weights, out = query.new_empty(sum(sizes)), torch.empty_like(query)
    drawn = source.words(rate, *sizes)
    words = None if drawn is None else torch.from_numpy(drawn.view(np.int16))
    given = {"query": query, "key": key, "value": value, "bias": bias, "words": words}
    _run("attend", {**given, "weights": weights, "out": out}, sight, rate.dropped)
    return out, [weights]


def attend_backward(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    kept: list[Tensor],
    sight: Sight,
    bias_gradient: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `attention.attend_backward`, of what `attend` kept."""
    d_query, d_key, d_value = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
    given = {"gradient": gradient, "query": query, "key": key, "value": value, "weights": kept[0]}
    found = {"d_query": d_query, "d_key": d_key, "d_value": d_value, "d_bias": bias_gradient}
    _run("attend_backward", {**given, **found}, sight, 0)
    return d_query, d_key, d_value


def _sizes(sight: Sight) -> list[int]:
    """Weights of each row."""
    pairs = zip(sight.queries.lengths, sight.keys.lengths, strict=True)
    return [sight.heads * queries * keys for queries, keys in pairs]


def _run(name: str, tensors: Mapping[str, Tensor | None], sight: Sight, dropped: int) -> None:
    """Calls a function of the library, its heads dealt to as many threads as torch uses; raises MemoryError."""
    given = {what: tensor for what, tensor in tensors.items() if tensor is not None}
    query, queries, keys = given["query"], _ends(sight.queries), _ends(sight.keys)
    call = _Call(
        **{what: _address(tensor, _OTHERS.get(what, query.dtype)) for what, tensor in given.items()},
        queries=queries.ctypes.data,
        keys=keys.ctypes.data,
        rows=len(sight.queries.lengths),
        heads=sight.heads,
        width=query.shape[1] // sight.heads,
        side=max((given[what].shape[1] for what in ("bias", "d_bias") if what in given), default=0),
        dropped=dropped,
        half=query.dtype == torch.bfloat16,
        causal=sight.causal,
    )
    parts = min(torch.get_num_threads(), sight.heads, 1 + sum(_sizes(sight)) * call.width // WORTH_A_THREAD)
    cuts = [sight.heads * part // parts for part in range(parts + 1)]
    first, *others = itertools.pairwise(cuts)
    function, reference = getattr(library(), name), ctypes.byref(call)
    begun = [_threads().submit(function, reference, *part) for part in others]
    failed = function(reference, *first)
    if any([failed, *(other.result() for other in begun)]):
        raise MemoryError("no memory for the scores of attention")


def _ends(rows: Rows) -> Any:
    """Where each row begins, and where the last one ends."""
    return np.cumsum([0, *rows.lengths], dtype=np.int64)


def _address(tensor: Tensor, kind: torch.dtype) -> int:
    """Where a tensor's values are; raises ValueError where C would take them for others."""
    if tensor.dtype != kind or tensor.device.type != "cpu" or not tensor.is_contiguous():
        raise ValueError(f"{tensor.dtype} on {tensor.device}, strides {tensor.stride()}: {kind} end to end is needed")
    return tensor.data_ptr()


@cache
def _threads() -> ThreadPoolExecutor:
    """Threads beside the one that asks; they are there until the process ends."""
    return ThreadPoolExecutor(thread_name_prefix="attention")
