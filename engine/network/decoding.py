"""Greedy replies of a T5 with a key-value cache that holds no row that has ended.

Rows leave the batch as they end, keys and values of the encoder's output are computed once, and the cache grows by
blocks, so that the memory is that of the longest reply written and not of the longest allowed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from engine.network.layers import ACTIVATIONS, normed
from engine.network.rows import Rows
from engine.network.values import Values

BLOCK = 32  # tokens that a cache grows by
FULL = 0.75  # rows are moved together where fewer than this share of them go on


@dataclass
class _Cache:
    """Keys and values of one layer, (rows, heads, tokens, width of a head); of a decoder's own, with room to grow."""

    keys: Tensor
    values: Tensor

    def put(self, at: int, key: Tensor, value: Tensor) -> None:
        """Adds those of token `at` of every row, (rows, heads, 1, width)."""
        if at >= self.keys.shape[2]:
            self.keys, self.values = (functional.pad(part, (0, 0, 0, BLOCK)) for part in (self.keys, self.values))
        self.keys[:, :, at] = key[:, :, 0]
        self.values[:, :, at] = value[:, :, 0]

    def keep(self, rows: Tensor) -> None:
        """Forgets all but these rows."""
        self.keys, self.values = self.keys[rows], self.values[rows]


class Decoding:
    """The replies to one batch of prompts, token by token."""

    def __init__(self, model: Any, values: Values, encoded: Tensor, rows: Rows) -> None:
        self._stack, self._values, self._config = model.decoder, values, model.config
        self._heads, kind = model.config.num_heads, values.kind
        self._count = len(rows.lengths)
        mask = torch.zeros(self._count, 1, 1, rows.longest, dtype=kind)
        for number, length in enumerate(rows.lengths):
            mask[number, ..., length:] = torch.finfo(kind).min
        self._mask = mask
        empty = torch.empty(self._count, self._heads, 0, model.config.d_kv, dtype=kind)
        self._own = [_Cache(empty, empty) for _ in self._stack.block]
        self._cross = [
            self._encoded_cache(block.layer[1].EncDecAttention, encoded, rows) for block in self._stack.block
        ]
        self._bias = torch.empty(0)

    def _encoded_cache(self, attention: Any, encoded: Tensor, rows: Rows) -> _Cache:
        parts = []
        for module in (attention.k, attention.v):
            projected = functional.linear(encoded, self._values[module.weight])
            padded = torch.nn.utils.rnn.pad_sequence([projected[place] for place in rows.places()], batch_first=True)
            parts.append(self._split(padded).contiguous())
        return _Cache(*parts)

    def _split(self, x: Tensor) -> Tensor:
        """(rows, tokens, heads × width) by head, (rows, heads, tokens, width)."""
        return x.view(x.shape[0], x.shape[1], self._heads, -1).transpose(1, 2)

    def keep(self, rows: Tensor) -> None:
        """Goes on with these rows alone."""
        self._mask = self._mask[rows]
        for cache in (*self._own, *self._cross):
            cache.keep(rows)

    def hidden(self, x: Tensor, at: int) -> Tensor:
        """The decoder's output for token `at` of every row, (rows, d_model), from its embedding."""
        bias = self._bias_at(at)
        for number, block in enumerate(self._stack.block):
            own, cross, feed = block.layer[0], block.layer[1], block.layer[2]
            attention = own.SelfAttention
            n = self._norm(x, own.layer_norm)
            self._own[number].put(at, self._heads_of(n, attention.k), self._heads_of(n, attention.v))
            cache, end = self._own[number], at + 1
            seen = self._seen(self._heads_of(n, attention.q), cache.keys[:, :, :end], cache.values[:, :, :end], bias)
            x = x + self._linear(seen, attention.o).to(x.dtype)
            attention, cache = cross.EncDecAttention, self._cross[number]
            n = self._norm(x, cross.layer_norm)
            seen = self._seen(self._heads_of(n, attention.q), cache.keys, cache.values, self._mask)
            x = x + self._linear(seen, attention.o).to(x.dtype)
            x = x + self._fed(self._norm(x, feed.layer_norm), feed.DenseReluDense).to(x.dtype)
        last = self._stack.final_layer_norm
        scale: Tensor = last.weight.detach().to(x.dtype)
        return normed(x, scale, last.variance_epsilon)[1]

    def _bias_at(self, at: int) -> Tensor:
        """Bias of the scores of token `at`, (1, heads, 1, tokens so far)."""
        if at >= self._bias.shape[-1]:
            attention = self._stack.block[0].layer[0].SelfAttention
            self._bias = attention.compute_bias(at + BLOCK, at + BLOCK).to(self._values.kind)
        here: Tensor = self._bias[:, :, at : at + 1, : at + 1]
        return here

    def _norm(self, x: Tensor, module: Any) -> Tensor:
        return normed(x, self._values[module.weight], module.variance_epsilon)[1]

    def _linear(self, x: Tensor, module: Any) -> Tensor:
        return functional.linear(x, self._values[module.weight])

    def _heads_of(self, n: Tensor, module: Any) -> Tensor:
        return self._split(self._linear(n, module)[:, None])

    def _seen(self, query: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        bias = bias.expand(query.shape[0], -1, -1, -1)
        seen = functional.scaled_dot_product_attention(query, keys, values, attn_mask=bias, scale=1.0)
        return seen.transpose(1, 2).flatten(1)

    def _fed(self, n: Tensor, dense: Any) -> Tensor:
        if self._config.is_gated_act:
            activate = ACTIVATIONS[self._config.dense_act_fn][0]
            return self._linear(activate(self._linear(n, dense.wi_0)).mul_(self._linear(n, dense.wi_1)), dense.wo)
        return self._linear(self._linear(n, dense.wi).relu_(), dense.wo)


def greedy(
    decoding: Decoding,
    embedded: Callable[[Tensor], Tensor],
    logits: Callable[[Tensor], Tensor],
    start: int,
    ends: Sequence[int],
    rows: int,
    longest: int,
) -> list[list[int]]:
    """The most likely next token again and again, at most `longest` for each row; the start token is the first."""
    replies = [[start] for _ in range(rows)]
    going = list(range(rows))  # whose reply stands at each place of the batch; ended ones stay until rows are moved
    ids = torch.full((rows,), start)
    ended = torch.zeros(rows, dtype=torch.bool)
    stops = torch.tensor(ends)
    for at in range(longest):
        ids = logits(decoding.hidden(embedded(ids), at)).argmax(dim=-1)
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
