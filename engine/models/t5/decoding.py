"""Greedy replies of a T5 with a key-value cache that drops rows that have ended.

Rows leave the batch as they end, keys and values of the encoder's output are computed once, and the cache grows by
blocks, so that it takes the memory of the longest reply generated and not of the longest allowed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from engine.cpu.kernels import kernels_for
from engine.cpu.prepacking import linear
from engine.cpu.ragged import Rows
from engine.cpu.weight_casts import Values
from engine.models.t5.layers import ACTIVATIONS

BLOCK = 32  # tokens that a cache grows by
FULL = 0.75  # rows are compacted if fewer than this share of them are unfinished


@dataclass
class _Cache:
    """Keys and values of one layer, (rows, room, heads × width); the first `counts` of each row are filled."""

    keys: Tensor
    values: Tensor
    counts: npt.NDArray[np.int64]

    def grow(self) -> None:
        """Counts one more token, and adds a block if the cache is full."""
        self.counts = self.counts + 1
        if self.counts[0] > self.keys.shape[1]:
            self.keys, self.values = (functional.pad(part, (0, 0, 0, BLOCK)) for part in (self.keys, self.values))

    def keep(self, rows: Tensor) -> None:
        """Drops all but these rows."""
        self.keys, self.values, self.counts = self.keys[rows], self.values[rows], self.counts[rows.numpy()]


class Decoding:
    """The replies to one batch of prompts, token by token."""

    def __init__(self, model: Any, values: Values, encoded: Tensor, rows: Rows) -> None:
        self._stack, self._values, self._config = model.decoder, values, model.config
        self._heads, kind = model.config.num_heads, values.kind
        count, inner = len(rows.lengths), model.config.num_heads * model.config.d_kv
        empty, none = torch.empty(count, 0, inner, dtype=kind), np.zeros(count, np.int64)
        self._own = [_Cache(empty, empty, none) for _ in self._stack.block]
        self._cross = [
            self._encoded_cache(block.layer[1].EncDecAttention, encoded, rows) for block in self._stack.block
        ]
        self._bias = torch.empty(0, 0, 0)

    def _encoded_cache(self, attention: Any, encoded: Tensor, rows: Rows) -> _Cache:
        projected = linear(encoded, self._values.together(attention.k.weight, attention.v.weight))
        padded = torch.nn.utils.rnn.pad_sequence([projected[place] for place in rows.places()], batch_first=True)
        keys, values = (part.contiguous() for part in padded.chunk(2, dim=2))
        return _Cache(keys, values, np.array(rows.lengths, np.int64))

    def keep(self, rows: Tensor) -> None:
        """Continues with these rows only."""
        for cache in (*self._own, *self._cross):
            cache.keep(rows)

    def hidden(self, x: Tensor, at: int) -> Tensor:
        """The decoder's output for token `at` of every row, (rows, d_model), from its embedding."""
        bias = self._bias_at(at)
        for own_cache, cross_cache, block in zip(self._own, self._cross, self._stack.block, strict=True):
            own, cross, feed = block.layer[0], block.layer[1], block.layer[2]
            attention = own.SelfAttention
            given = self._product(
                self._norm(x, own.layer_norm), attention.q.weight, attention.k.weight, attention.v.weight
            )
            own_cache.grow()
            x = x + self._product(self._seen(given, own_cache, bias), attention.o.weight)
            attention = cross.EncDecAttention
            given = self._product(self._norm(x, cross.layer_norm), attention.q.weight)
            x = x + self._product(self._seen(given, cross_cache), attention.o.weight)
            x = x + self._fed(self._norm(x, feed.layer_norm), feed.DenseReluDense)
        last = self._stack.final_layer_norm
        scale: Tensor = last.weight.detach().to(x.dtype)
        return kernels_for(scale).normed(x, scale, last.variance_epsilon)[1]

    def _bias_at(self, at: int) -> Tensor:
        """Bias of the scores of token `at`, (heads, tokens so far), fp32."""
        if at >= self._bias.shape[-1]:
            attention = self._stack.block[0].layer[0].SelfAttention
            self._bias = attention.compute_bias(at + BLOCK, at + BLOCK)[0].float()
        return self._bias[:, at, : at + 1].contiguous()

    def _norm(self, x: Tensor, module: Any) -> Tensor:
        scale = self._values[module.weight]
        return kernels_for(scale).normed(x, scale, module.variance_epsilon)[1]

    def _product(self, x: Tensor, *weights: Any) -> Tensor:
        return linear(x, self._values.together(*weights))

    def _seen(self, given: Tensor, cache: _Cache, bias: Tensor | None = None) -> Tensor:
        return kernels_for(given).attend_step(given, cache.keys, cache.values, bias, cache.counts, self._heads)

    def _fed(self, n: Tensor, dense: Any) -> Tensor:
        if self._config.is_gated_act:
            activate = ACTIVATIONS[self._config.dense_act_fn][0]
            gated = activate(self._product(n, dense.wi_0.weight)).mul_(self._product(n, dense.wi_1.weight))
            return self._product(gated, dense.wo.weight)
        return self._product(self._product(n, dense.wi.weight).relu_(), dense.wo.weight)


def most_likely(logits: Tensor) -> Tensor:
    """The index of the first of the greatest logits of each row, (rows,)."""
    return kernels_for(logits).largest(logits)


def greedy(
    decoding: Decoding,
    embedded: Callable[[Tensor], Tensor],
    logits: Callable[[Tensor], Tensor],
    start: int,
    ends: Sequence[int],
    rows: int,
    longest: int,
) -> list[list[int]]:
    """The most likely next token repeatedly, up to `longest` per row; each reply begins with the start token."""
    replies = [[start] for _ in range(rows)]
    going = list(range(rows))  # the reply at each place of the batch; ended ones stay until rows are compacted
    ids = torch.full((rows,), start)
    ended = torch.zeros(rows, dtype=torch.bool)
    stops = torch.tensor(ends)
    for at in range(longest):
        ids = most_likely(logits(decoding.hidden(embedded(ids), at)))
        for place, token in enumerate(ids.tolist()):
            if not ended[place]:
                replies[going[place]].append(token)
        ended |= torch.isin(ids, stops)
        left = int((~ended).sum())
        if not left:
            break
        if left < FULL * len(going):
            stay = torch.nonzero(~ended)[:, 0]
            decoding.keep(stay)
            going, ids, ended = [going[place] for place in stay.tolist()], ids[stay], ended[stay]
    return replies
