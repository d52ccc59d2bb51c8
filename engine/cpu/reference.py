"""The compiled functions in plain torch: for other processors and devices, and as a reference for tests."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from engine.cpu import placement
from engine.cpu.dropout import Draw, RandomBits, Rate, drop_
from engine.cpu.ragged import AttentionPattern, CausalPattern

CACHED_LOGITS = 500_000  # fp32, 2 MB
UNLIKELY = 60.0  # a loss beyond which fp32 may hold too few digits of the label's probability to take its logarithm
SHORT = 256  # values whose squares fp32 adds up with an error of at most 3e-7, on vectors of 8 or 16
_HALF = np.float32(0.5)


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
    """See `Kernels.attend`; the softmax is one tensor per row.

    Scores are computed in fp32 whatever the dtype of the rest: they are a few percent of the work, and a softmax needs
    the precision.
    """
    kind, kept = query.dtype, []
    query, key, value = (part.to(_precise(kind)) for part in (query, key, value))
    seen = torch.empty_like(query)
    for at, of in pattern.pairs():
        q, k, v = pattern.split(query, at), pattern.split(key, of), pattern.split(value, of)
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
        pattern.split(seen, at).copy_(torch.bmm(weights, v))
    return seen.to(kind), kept


def attend_backward(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    kept: list[Tensor],
    pattern: AttentionPattern,
    bias_gradient: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """See `Kernels.attend_backward`."""
    kind = query.dtype
    precise = _precise(kind)
    query, key, value, gradient = (part.to(precise) for part in (query, key, value, gradient))
    d_query, d_key, d_value = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
    for (at, of), signed in zip(pattern.pairs(), kept, strict=True):
        q, k, v, g = (pattern.split(a, b) for a, b in ((query, at), (key, of), (value, of), (gradient, at)))
        signed = signed.to(precise)
        pattern.split(d_value, of).copy_(torch.bmm(signed.relu().transpose(1, 2), g))
        d_weights = torch.ops.aten.threshold_backward(torch.bmm(g, v.transpose(1, 2)), signed, 0)
        d_scores = torch._softmax_backward_data(d_weights, signed.abs(), -1, precise)
        pattern.split(d_query, at).copy_(torch.bmm(d_scores, k))
        pattern.split(d_key, of).copy_(torch.bmm(d_scores.transpose(1, 2), q))
        if bias_gradient is not None:
            bias_gradient[:, : q.shape[1], : k.shape[1]] += d_scores
    return d_query.to(kind), d_key.to(kind), d_value.to(kind)


def causal(query: Tensor, key: Tensor, value: Tensor, pattern: CausalPattern) -> tuple[Tensor, Tensor]:
    """See `Kernels.causal`."""
    kind = query.dtype
    parts = [each.to(_precise(kind)) for each in (query, key, value)]
    seen, sums = torch.empty_like(parts[0]), parts[0].new_empty(len(query), pattern.heads)
    for place in pattern.rows.places():
        q, (k, v) = pattern.split(parts[0], place), (pattern.split_keys(each, place) for each in parts[1:])
        scores = pattern.scores(q, k)
        total = scores.logsumexp(dim=-1)
        found = torch.matmul((scores - total[..., None]).exp_(), v)
        seen[place] = found.flatten(0, 1).transpose(0, 1).flatten(1)
        sums[place] = total.flatten(0, 1).t()
    return seen.to(kind), sums


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
    precise = _precise(query.dtype)
    d_query, d_key, d_value = to
    query, key, value, gradient, out = (each.to(precise) for each in (query, key, value, gradient, out))
    for place in pattern.rows.places():
        q, g, o = (pattern.split(each, place) for each in (query, gradient, out))
        k, v = (pattern.split_keys(each, place) for each in (key, value))
        total = sums[place].t().view(pattern.groups, -1, len(sums[place]), 1)
        weights = (pattern.scores(q, k) - total).exp_()
        d_weights = torch.matmul(g, v.transpose(2, 3))
        d_scores = weights * (d_weights - (g * o).sum(dim=-1, keepdim=True)) * pattern.scale
        d_query[place] = torch.matmul(d_scores, k).flatten(0, 1).transpose(0, 1).flatten(1).to(d_query.dtype)
        for found, left, right in ((d_key, d_scores, q), (d_value, weights, g)):
            summed = torch.matmul(left.transpose(2, 3), right).sum(dim=1)
            found[place] = summed.transpose(0, 1).flatten(1).to(found.dtype)


def causal_step(
    given: Tensor, keys: Tensor, values: Tensor, counts: npt.NDArray[np.int64], pattern: CausalPattern
) -> Tensor:
    """See `Kernels.causal_step`."""
    rows, groups, room, width = keys.shape
    sizes = [pattern.heads * width, groups * width, groups * width]
    query, *own = (part.unflatten(1, (-1, width)) for part in given.split(sizes, dim=1))
    places, count = torch.arange(room), torch.from_numpy(counts)[:, None]
    for cache, new in zip((keys, values), own, strict=True):
        cache[torch.arange(rows), :, count[:, 0] - 1] = new
    seen = (places < count) & ((places >= count - pattern.window) if pattern.window else True)
    shared = query.reshape(rows, groups, -1, width)
    mask = seen[:, None, None]
    found = functional.scaled_dot_product_attention(shared, keys, values, attn_mask=mask, scale=pattern.scale)
    return found.flatten(1)


def rotate(values: Tensor, angles: Tensor, heads: int, *, back: bool = False) -> None:
    """See `Kernels.rotate`."""
    pairs = angles.shape[1] // 2
    cosine, sine = (part[:, None] for part in angles.split(pairs, dim=1))
    sine = -sine if back else sine
    turned = values.unflatten(1, (heads, -1))[..., : 2 * pairs]
    x, y = turned.to(_precise(values.dtype)).split(pairs, dim=2)
    turned.copy_(torch.cat([x * cosine - y * sine, y * cosine + x * sine], dim=2))


def swiglu(both: Tensor) -> Tensor:
    """See `Kernels.swiglu`."""
    gate, up = both.to(_precise(both.dtype)).chunk(2, dim=1)
    return (functional.silu(gate) * up).to(both.dtype)


def swiglu_backward(both: Tensor, gradient: Tensor) -> None:
    """See `Kernels.swiglu_backward`."""
    gate, up = both.to(_precise(both.dtype)).chunk(2, dim=1)
    by, share = gradient.to(gate.dtype), torch.sigmoid(gate)
    silu = gate * share
    product = silu * up
    both.copy_(torch.cat([by * up * (share + silu - silu * share), by * silu], dim=1))
    gradient.copy_(product)


def attend_step(
    given: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None, counts: npt.NDArray[np.int64], heads: int
) -> Tensor:
    """See `Kernels.attend_step`."""
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


# --- between the matrix products


def normed(x: Tensor, scale: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    """See `Kernels.normed`."""
    root = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    inverse = root.square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
    plain = (x * inverse).to(scale.dtype)
    return plain, plain * scale, inverse


def normed_backward(
    gradient: Tensor, plain: Tensor, inverse: Tensor, scale: Tensor, bypass: Tensor, *, scale_learns: bool
) -> tuple[Tensor, Tensor | None]:
    """See `Kernels.normed_backward`."""
    precise = inverse.dtype
    scale = scale.to(precise)
    g, n = gradient.to(precise), plain.to(precise)
    along = g * n
    d_scale = along.sum(dim=0) if scale_learns else None
    shared = torch.mv(along, scale).div_(-scale.shape[0])[:, None]
    d_x = g.mul(scale).addcmul_(n, shared).mul_(inverse)
    return d_x.add_(bypass), d_scale


def residual(x: Tensor, y: Tensor, draw: Draw | None, factor: float) -> Tensor:
    """See `Kernels.residual`; y is overwritten."""
    return torch.add(x, drop_(y, draw).to(x.dtype), alpha=factor)


def kept(x: Tensor, draw: Draw | None, factor: float, kind: torch.dtype) -> Tensor:
    """See `Kernels.kept`."""
    return drop_(x.mul(factor).to(kind), draw)


def relu_dropped(hidden: Tensor, draw: Draw | None) -> Tensor:
    """See `Kernels.relu_dropped`."""
    return drop_(hidden.relu_(), draw)


# --- the loss


def losses(logits: Tensor, labels: Tensor, *, gradient: bool) -> Tensor:
    """See `Kernels.losses`.

    Computed in fp32 a few rows at a time, so that they stay in the processor's cache: for 256 tokens of 29,298 logits
    in bf16 that takes 8.5 ms on two cores, against 74 ms all at once. A GPU takes them all at once, and never asks
    which losses are large.
    """
    here = placement.on_host(logits)
    one = _loss_and_gradient if here else _by_logarithms
    rows = max(1, CACHED_LOGITS // logits.shape[1] if here else len(logits))
    found = torch.empty(len(logits), dtype=_precise(logits.dtype), device=logits.device)
    for start in range(0, len(logits), rows):
        part = slice(start, start + rows)
        precise = logits[part].to(found.dtype)
        if gradient:
            found[part] = one(precise, labels[part], logits[part])
        else:
            found[part] = functional.cross_entropy(precise, labels[part], reduction="none")
    return found


def _loss_and_gradient(precise: Tensor, labels: Tensor, to: Tensor) -> Tensor:
    places = (torch.arange(len(precise), device=precise.device), labels)
    probabilities = torch.softmax(precise, dim=-1)
    found = probabilities[places].log_().neg_()
    unlikely = found > UNLIKELY
    if unlikely.any():
        found[unlikely] = precise[unlikely].logsumexp(dim=-1) - precise[places][unlikely]
    probabilities[places] = torch.expm1(-found)  # p - 1, accurate to all its digits where p is near 1
    to.copy_(probabilities)
    return found


def _by_logarithms(precise: Tensor, labels: Tensor, to: Tensor) -> Tensor:
    """The same without a decision by values: exact for large losses too, but slower on a processor."""
    places = (torch.arange(len(precise), device=precise.device), labels)
    logarithms = torch.log_softmax(precise, dim=-1)
    found = logarithms[places].neg_()
    probabilities = logarithms.exp_()
    probabilities[places] = torch.expm1(-found)
    to.copy_(probabilities)
    return found


def largest(logits: Tensor) -> Tensor:
    """See `Kernels.largest`."""
    return logits.argmax(dim=-1)


# --- gradients and updates


def add_(total: Tensor, part: Tensor) -> None:
    """See `Kernels.add_`."""
    total.add_(part)


def squares(values: Tensor) -> float:
    """See `Kernels.squares`: as fast as fp32 alone, from fp32 norms of short pieces, squared in double."""
    values = values.flatten()
    whole = len(values) // SHORT * SHORT
    pieces = (values[:whole].view(-1, SHORT), values[whole:].view(1, -1))
    return sum(float(torch.linalg.vector_norm(piece, dim=1).double().square().sum()) for piece in pieces)


@dataclass(frozen=True)
class Matrix:
    """A matrix for Adafactor: its gradient, its second moment as (rows, 1) and (1, columns), and its scalars.

    The scalars are the weight of the new squares, the least second moment, the least norm, the learning rate, the
    factor that the parameter is multiplied by, and the greatest root mean square of an update.
    """

    parameter: Tensor
    gradient: Tensor
    row_var: Tensor
    col_var: Tensor
    weight: float
    least: float
    smallest: float
    rate: float
    decay: float
    most: float


def adafactor(matrices: Sequence[Matrix]) -> list[bool]:
    """See `Kernels.adafactor`; the update overwrites the gradient."""
    return list(map(_updated, matrices))


def _updated(matrix: Matrix) -> bool:
    parameter, gradient = matrix.parameter, matrix.gradient
    # A norm over columns takes torch 8 ms for 768 × 3,072, and the product of its squares with ones 0.6 ms.
    squares, ones = gradient.square(), torch.ones_like
    row, column = torch.mv(squares, ones(squares[0])), torch.mv(squares.t(), ones(squares[:, 0]))
    rows, columns = gradient.shape
    row = matrix.row_var.lerp(row.div_(columns)[:, None], matrix.weight)
    column = matrix.col_var.lerp(column.div_(rows)[None], matrix.weight)
    mean = row.mean(dim=-2, keepdim=True).clamp_(min=matrix.least)
    if float(row.min() * column.min() / mean) < matrix.least**2:
        return False
    matrix.row_var.copy_(row)
    matrix.col_var.copy_(column)
    size = parameter.numel() ** 0.5
    alpha = max(matrix.smallest, _norm(parameter) / size) * matrix.rate
    update = gradient.mul_((row / mean).rsqrt_()).mul_(column.rsqrt_())
    clipped = max(1.0, _norm(update) / (size * matrix.most))
    parameter.mul_(matrix.decay).add_(update, alpha=-alpha / clipped)
    return True


def _norm(values: Tensor) -> float:
    return math.sqrt(squares(values))


# --- shared helpers


def _precise(kind: torch.dtype) -> torch.dtype:
    return torch.promote_types(kind, torch.float32)
