"""Greedy replies with a key-value cache, over rows of unequal length, none of which is padded to another.

Prompts are computed end to end, and what all of them begin with, such as a system prompt, once. Each layer's cache has
the length of the longest row so far, and every row fills the beginning of its part; rows leave the batch as they end.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from engine.cpu.ragged import Rows
from engine.models.causal.attention import EndToEnd, Mask, Pass, Seen, end_to_end, laid
from engine.models.causal.memory import CACHED

BLOCK = 32  # tokens that a cache grows by
FULL = 0.75  # rows are compacted if fewer than this share of them are unfinished
PROMPT_TOKENS = 2048  # of prompts that are computed at once
SHARED = 4  # tokens that all prompts begin with, from which on they are computed once
SPREAD = 4  # times as many tokens, where attention has what is shared in every row

# Runs the model on its inputs with a cache; returns the most likely token after each of some places, (places,).
Ahead = Callable[[dict[str, Tensor], "Cache", Tensor], Tensor]


@dataclass
class _Layer:
    """Keys and values of one layer, (rows, heads, room, width)."""

    keys: Tensor
    values: Tensor


class Cache:
    """The keys and values of all layers, as transformers' models use a cache.

    `counts` are the tokens of each row that are in it, (rows,). While prompts are computed, `prompts` are those rows
    of the batch, and where they are laid, without the `shared` tokens that all of them begin with; then each row gets
    one token at a time.
    """

    is_compileable = False
    is_sliding = (False,)

    def __init__(self, lengths: Sequence[int], longest: int) -> None:
        """`lengths` are those of the prompts, `longest` the most tokens that may follow one."""
        self.counts = torch.tensor(lengths)
        self.longest = max(lengths) + 1  # tokens of the longest row, with that of the step under way
        self._most = max(lengths) + longest
        self.room = min(self._most, max(lengths) + BLOCK)
        self.prompts: tuple[range, Rows] | None = None
        self.shared = 0
        self._layers: dict[int, _Layer] = {}

    def get_seq_length(self, _layer: int = 0) -> int:
        """The tokens before this pass."""
        return 0 if self.prompts is not None else self.longest - 1

    def get_query_offset(self, _layer: int = 0) -> int:
        """The same, as masks need it; ours know their rows."""
        return self.get_seq_length()

    def get_mask_sizes(self, queries: int, _layer: int = 0) -> tuple[int, int]:
        """The number of keys, and the place of the first."""
        return (queries if self.prompts is not None else self.longest), 0

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Adds a layer's keys and values; returns those that its queries attend to."""
        kept = self._layers.get(layer)
        if kept is None:
            rooms = ((part, (len(self.counts), part.shape[1], self.room, part.shape[3])) for part in (keys, values))
            # Each in its own dtype: rotated keys are fp32 where the residual stream is, though values are bf16.
            kept = self._layers[layer] = _Layer(*(part.new_zeros(room) for part, room in rooms))
        if self.prompts is not None:
            some, rows = self.prompts
            for row, place in zip(some, rows.places(), strict=True):
                at = slice(self.shared, self.shared + place.stop - place.start)
                kept.keys[row, :, at], kept.values[row, :, at] = keys[0, :, place], values[0, :, place]
            return keys, values
        every = torch.arange(len(self.counts))
        for whole, new in ((kept.keys, keys), (kept.values, values)):
            whole[every, :, self.counts] = new[:, :, 0].to(whole.dtype)
        # Under autocast, keys may come in another dtype after the first token.
        return kept.keys[:, :, : self.longest].to(keys.dtype), kept.values[:, :, : self.longest].to(values.dtype)

    def share(self, length: int) -> None:
        """Gives every row the first tokens of the first, which is the only one computed so far."""
        self.shared = length
        for layer in self._layers.values():
            for part in (layer.keys, layer.values):
                part[1:, :, :length] = part[:1, :, :length]

    def of(self, layer: int) -> tuple[Tensor, Tensor]:
        """The keys and values of a layer, (rows, heads, room, width) each."""
        kept = self._layers[layer]
        return kept.keys, kept.values

    def advance(self) -> None:
        """Counts the token of a step, and makes room for the next."""
        self.counts = self.counts + 1
        self.longest += 1
        more = min(BLOCK, self._most - self.room)
        if self.longest > self.room and more:
            self.room += more
            for layer in self._layers.values():
                layer.keys, layer.values = (functional.pad(p, (0, 0, 0, more)) for p in (layer.keys, layer.values))

    def keep(self, rows: Tensor) -> None:
        """Drops all but these rows, and the room that only the others needed."""
        self.counts = self.counts[rows]
        self.longest = int(self.counts.max()) + 1
        self.room = min(self.room, self.longest + BLOCK)
        for layer in self._layers.values():
            layer.keys, layer.values = (part[rows, :, : self.room] for part in (layer.keys, layer.values))

    def numbers_for_token(self) -> int:
        """The numbers kept of one token of one row, once a prompt was computed."""
        parts = [part for layer in self._layers.values() for part in (layer.keys, layer.values)]
        return sum(part.shape[1] * part.shape[3] for part in parts)


@dataclass(frozen=True)
class _Step(Pass):
    """One more token for each row; `counts` are the tokens before it, `keys` those in the cache with it."""

    counts: Tensor
    keys: int

    def mask(self, seen: Seen | None, size: int | None = None) -> Mask:  # noqa: ARG002
        """What each row's token sees."""
        places, here = torch.arange(self.keys)[None], self.counts[:, None]
        return _StepMask(places <= here if seen is None else seen(here, places))


@dataclass(frozen=True)
class _StepMask:
    """Whether the one query of each row sees each key, (rows, keys)."""

    seen: Tensor

    def attended(self, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        """The attention of each row's query; query heads that share keys are computed as several queries."""
        rows, heads, _, width = query.shape
        shared = query.view(rows, key.shape[1], heads // key.shape[1], width)
        found = functional.scaled_dot_product_attention(
            shared, key, value, attn_mask=self.seen[:, None, None], scale=scale
        )
        return found.reshape(rows, heads, 1, found.shape[-1])


def greedy(
    ahead: Ahead, prompts: Sequence[Tensor], stops: Sequence[int], longest: int, numbers: int, *, shares: bool
) -> list[list[int]]:
    """The most likely next token repeatedly, until a stop token, which is included, or `longest` tokens.

    `numbers` are those of a token in the cache, by which the rows decoded together are bounded. With `shares`, the
    model can compute prompts whose first tokens are in the cache.
    """
    replies: list[list[int]] = [[] for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda place: -len(prompts[place]))
    for some in _bounded(order, prompts, longest, numbers):
        found = _together(ahead, [prompts[place] for place in some], stops, longest, shares=shares)
        for place, reply in zip(some, found, strict=True):
            replies[place] = reply
    return replies


def _bounded(order: list[int], prompts: Sequence[Tensor], longest: int, numbers: int) -> Iterator[list[int]]:
    """The prompts in that order, as many at a time as the cache may hold, one at least."""
    while order:
        rows = max(1, CACHED // ((len(prompts[order[0]]) + longest) * numbers))
        rows = -(-len(order) // -(-len(order) // rows))  # the same number of rows each time, as far as possible
        yield order[:rows]
        order = order[rows:]


def _together(
    ahead: Ahead, prompts: list[Tensor], stops: Sequence[int], longest: int, *, shares: bool
) -> list[list[int]]:
    cache, ends = Cache([len(prompt) for prompt in prompts], longest), torch.tensor(stops, dtype=torch.int64)
    ids = first_tokens(ahead, cache, prompts, shared_by(prompts) if shares else 0)
    replies: list[list[int]] = [[] for _ in prompts]
    going = list(range(len(prompts)))  # the reply at each place of the batch; ended ones stay until rows are compacted
    ended = torch.zeros(len(prompts), dtype=torch.bool)
    for at in range(1, longest + 1):
        for place, token in enumerate(ids.tolist()):
            if not ended[place]:
                replies[going[place]].append(token)
        ended |= torch.isin(ids, ends)
        left = int((~ended).sum())
        if not left or at == longest:
            break
        if left < FULL * len(going):
            stay = torch.nonzero(~ended)[:, 0]
            cache.keep(stay)
            going, ids, ended = [going[place] for place in stay.tolist()], ids[stay], ended[stay]
        ids = next_tokens(ahead, cache, ids)
    return replies


def shared_by(prompts: Sequence[Tensor]) -> int:
    """The number of tokens that all of some prompts begin with, never all of one; 0 if it is not worth it."""
    most = min(len(prompt) for prompt in prompts) - 1
    same = torch.stack([prompt[:most] == prompts[0][:most] for prompt in prompts]).all(dim=0)
    count = int(same.long().cumprod(dim=0).sum())
    return count if count >= SHARED and len(prompts) > 1 else 0


def first_tokens(ahead: Ahead, cache: Cache, prompts: Sequence[Tensor], shared: int = 0) -> Tensor:
    """The most likely token after each prompt, (rows,); the prompts are then in the cache.

    The first `shared` tokens of all prompts are the same, and computed once.
    """
    if shared:
        _laid(ahead, cache, range(1), [prompts[0][:shared]])
        cache.share(shared)
    found, start = [], 0
    while start < len(prompts):
        end, tokens = start + 1, len(prompts[start]) - shared
        while end < len(prompts):
            tokens += len(prompts[end]) - shared
            if tokens > PROMPT_TOKENS or tokens + (end + 1 - start) * shared > SPREAD * PROMPT_TOKENS:
                break
            end += 1
        found.append(_laid(ahead, cache, range(start, end), [prompt[shared:] for prompt in prompts[start:end]]))
        start = end
    cache.prompts = None
    return torch.cat(found)


def _laid(ahead: Ahead, cache: Cache, some: range, prompts: Sequence[Tensor]) -> Tensor:
    """The most likely token after each of some prompts end to end, without what is shared."""
    ids, rows = Rows.lay(prompts)
    cache.prompts = some, rows
    given = end_to_end(ids, rows)
    with laid(EndToEnd(rows)):
        return ahead(
            {**given, "position_ids": given["position_ids"] + cache.shared}, cache, torch.from_numpy(rows.ends[1:] - 1)
        )


def next_tokens(ahead: Ahead, cache: Cache, ids: Tensor) -> Tensor:
    """The most likely token after one more of each row, (rows,)."""
    mask = torch.ones(len(ids), cache.longest, dtype=torch.int64)
    given = {"input_ids": ids[:, None], "position_ids": cache.counts[:, None], "attention_mask": mask}
    with laid(_Step(cache.counts, cache.longest)):
        found = ahead(given, cache, torch.arange(len(ids)))
    cache.advance()
    return found
