"""In place of torch's attention over rows end to end, which computes on GPUs alone: the same in fp32, by one mask."""

from typing import Any

import torch
from torch import Tensor

given: list[dict[str, Any]] = []  # what the kernel was called with, apart from queries, keys and values


def varlen_attn(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor | None,
    max_q: int,
    max_k: int,
    *,
    return_aux: Any = None,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,
    seqused_k: Tensor | None = None,
    block_table: Tensor | None = None,
    num_splits: int | None = None,
) -> Tensor:
    """The attention of each row, (tokens, heads, width); values are read of nothing, as on a GPU."""
    assert (return_aux, seqused_k, block_table, num_splits) == (None, None, None, None)
    assert query.dtype == key.dtype == value.dtype
    assert query.shape[::2] == key.shape[::2] == value.shape[::2]
    assert enable_gqa or query.shape[1] == key.shape[1]
    assert isinstance(window_size, tuple)  # torch compares it with one
    assert cu_seq_k is not None
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    given.append({"ends": cu_seq_q, "longest": (max_q, max_k), "window": window_size, "kind": query.dtype})
    groups = query.shape[1] // key.shape[1]
    keys, values = (part.float().repeat_interleave(groups, dim=1) for part in (key, value))
    scores = torch.einsum("qhw,khw->hqk", query.float(), keys) * (query.shape[2] ** -0.5 if scale is None else scale)
    seen = _seen(cu_seq_q, len(query), *window_size)
    weights = scores.masked_fill(~seen, -torch.inf).softmax(dim=2)
    return torch.einsum("hqk,khw->qhw", weights, values).to(query.dtype)


def _seen(ends: Tensor, tokens: int, left: int, right: int) -> Tensor:
    places = torch.arange(tokens, dtype=torch.int32)
    row = torch.searchsorted(ends, places, right=True)
    behind = places[:, None] - places[None]
    seen = row[:, None] == row[None]
    if left >= 0:
        seen = seen & (behind <= left)
    return seen & (behind >= -right) if right >= 0 else seen
