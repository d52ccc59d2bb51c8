"""Attention between rows laid end to end: each row of queries sees its own row of keys, and its backward pass.

Scores are computed in fp32 whatever the rest is in: they are a few percent of the work, and a softmax needs the
digits. What is kept for the backward pass is the softmax alone, in the kind of the inputs, negative where dropout
took a weight away. Where `kernels` has compiled code for it, that is used.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from engine.cpu import kernels
from engine.cpu.dropout import Rate, Source
from engine.cpu.ragged import Sight

_HALF = np.float32(0.5)


def attend(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, sight: Sight, rate: Rate, source: Source
) -> tuple[Tensor, list[Tensor]]:
    """What every query sees, (tokens, heads × width), and the softmax of each row, or of all rows end to end.

    `query`, `key` and `value` are (tokens, heads × width), `bias` is (heads, longest query, longest key) or None.
    What dropout keeps is not scaled up here: the caller multiplies by `rate.scale`.
    """
    if kernels.serve(query):
        return kernels.attend(query, key, value, bias, sight, rate, source)
    kind, kept = query.dtype, []
    query, key, value = (part.to(_precise(kind)) for part in (query, key, value))
    seen = torch.empty_like(query)
    for at, of in sight.pairs():
        q, k, v = sight.split(query, at), sight.split(key, of), sight.split(value, of)
        if bias is None:
            scores = torch.bmm(q, k.transpose(1, 2))
        else:
            scores = torch.baddbmm(bias[:, : q.shape[1], : k.shape[1]], q, k.transpose(1, 2))
        weights = torch.softmax(scores, dim=-1)
        stay = source.kept(rate, *weights.shape)
        if stay is not None:
            weights.mul_(torch.from_numpy(np.subtract(stay, _HALF, dtype=np.float32))).mul_(2)
        kept.append(weights.to(kind))
        if stay is not None:
            weights = weights.relu()
        sight.split(seen, at).copy_(torch.bmm(weights, v))
    return seen.to(kind), kept


def attend_backward(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    kept: list[Tensor],
    sight: Sight,
    bias_gradient: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of query, key and value; that of the bias is added to `bias_gradient`, where there is one.

    `gradient` is that of what `attend` gave, already multiplied by `rate.scale`.
    """
    if kernels.serve(query):
        return kernels.attend_backward(gradient, query, key, value, kept, sight, bias_gradient)
    kind = query.dtype
    precise = _precise(kind)
    query, key, value, gradient = (part.to(precise) for part in (query, key, value, gradient))
    d_query, d_key, d_value = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
    for (at, of), signed in zip(sight.pairs(), kept, strict=True):
        q, k, v, g = (sight.split(a, b) for a, b in ((query, at), (key, of), (value, of), (gradient, at)))
        signed = signed.to(precise)
        sight.split(d_value, of).copy_(torch.bmm(signed.relu().transpose(1, 2), g))
        d_weights = torch.ops.aten.threshold_backward(torch.bmm(g, v.transpose(1, 2)), signed, 0)
        d_scores = torch._softmax_backward_data(d_weights, signed.abs(), -1, precise)
        sight.split(d_query, at).copy_(torch.bmm(d_scores, k))
        sight.split(d_key, of).copy_(torch.bmm(d_scores.transpose(1, 2), q))
        if bias_gradient is not None:
            bias_gradient[:, : q.shape[1], : k.shape[1]] += d_scores
    return d_query.to(kind), d_key.to(kind), d_value.to(kind)


def attend_step(
    given: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None, counts: npt.NDArray[np.int64], heads: int
) -> Tensor:
    """What one query of each row sees of the first `counts` of its keys, (rows, heads × width), as a reply is written.

    `given` are the queries, (rows, heads × width); with a key and a value after each, (rows, 3 × heads × width), these
    become the last of the row's `counts` first. `keys` and `values` are (rows, room, heads × width), and `bias` is
    (heads, tokens) or None.
    """
    if kernels.serve(given):
        return kernels.attend_step(given, keys, values, bias, counts, heads)
    rows, _, inner = keys.shape
    count = torch.from_numpy(counts)
    if given.shape[1] == 3 * inner:
        given, key, value = given.chunk(3, dim=1)
        here = (torch.arange(rows), count - 1)
        keys[here], values[here] = key, value
    longest = int(counts.max())
    query, key, value = (
        part[:, :longest].reshape(rows, -1, heads, inner // heads).transpose(1, 2)
        for part in (given[:, None], keys, values)
    )
    beyond = torch.arange(longest) >= count[:, None]
    mask = torch.zeros(rows, 1, 1, longest).masked_fill_(beyond[:, None, None], torch.finfo(torch.float32).min)
    if bias is not None:
        mask = mask + bias[None, :, None, :longest]
    seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask.to(given.dtype), scale=1.0)
    return seen.transpose(1, 2).flatten(1)


def _precise(kind: torch.dtype) -> torch.dtype:
    return torch.promote_types(kind, torch.float32)
