"""A causal model over rows laid end to end on a GPU, whose attention is torch's for rows of unequal lengths.

The model is transformers' own, but for its attention: one kernel call a layer for all rows (FlashAttention's, by
`torch.nn.attention.varlen`), without padding and without a mask. Whether it can be so is found out by
`varlen_trial.py`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from engine.cpu.ragged import Rows
from engine.data.batching import Measure
from engine.data.token_store import Row
from engine.models.causal.attention import NAME, Mask, Seen, UnsupportedError, laid
from engine.models.causal.computed import Given
from engine.models.causal.learned import places_of
from engine.models.causal.padded import SentCausal
from engine.models.loss import Head
from engine.models.network import END_TO_END, Choose, Tokens

ALL = -1  # as many tokens as there are, as the kernel names it

# The attention of queries, keys and values, (tokens, heads, width), with the signature of torch's `varlen_attn`.
Kernel = Callable[..., Any]


def kernel() -> Kernel:
    """torch's kernel; raises ImportError if this torch has none."""
    from torch.nn.attention.varlen import varlen_attn  # loads torch's compiler, which takes seconds

    return varlen_attn


class VarlenCausal(SentCausal):
    """A causal model that trains and is scored without padding on a GPU; its attention becomes the one called "rows".

    Replies are generated with the attention that the model had.
    """

    measure = Measure.SUM
    layout = END_TO_END

    def __init__(self, model: Any, head: Head | None, chunk: int, *, bf16: bool) -> None:
        super().__init__(model, head, chunk, bf16=bf16)
        self._kernel, self._windows, self._own = kernel(), set[int](), model.config._attn_implementation
        self._ends: Tensor | None = None  # of the rows that are computed next
        model.set_attn_implementation(NAME)

    def _laid_out(self, rows: Sequence[Row]) -> list[Tensor]:
        """The ids, (tokens,), their positions, where each row begins and the last one ends, and what is sought."""
        laid_out = Rows(tuple(len(row.ids) for row in rows))
        ids = torch.cat([torch.from_numpy(row.ids) for row in rows])
        positions = torch.cat([torch.arange(length) for length in laid_out.lengths])
        places = places_of(rows, (int(begin) for begin in laid_out.ends[:-1]))
        return [ids, positions, torch.from_numpy(laid_out.ends), *self._sought(rows, places, len(ids))]

    def _batch(self, rows: Sequence[Row]) -> tuple[Given, Tensor]:
        ids, positions, ends, *sought = self._uploads.take(rows)
        self._ends = ends.int()
        # Without the attention mask, which is not read, models look for rows in the positions themselves.
        inputs = {"input_ids": ids[None], "position_ids": positions[None], "attention_mask": torch.ones_like(ids)[None]}
        return self._given_with(inputs, sought)

    @contextmanager
    def _computing(self, rows: Sequence[Row]) -> Iterator[None]:
        assert self._ends is not None, "a batch is made before it is computed"
        longest = max(len(row.ids) for row in rows)
        with laid(RowsOnDevice(self._ends, longest, self._kernel, self._windows)), self._in_its_kind():
            yield

    def replies(self, prompts: Sequence[Tensor], longest: int) -> list[list[int]]:
        """Greedy replies to some prompts, as token ids, with the token that ends them."""
        with self._own_attention():
            return super().replies(prompts, longest)

    def reply_tokens(self, prompt: Tensor, choose: Choose) -> Tokens:
        """A reply to one prompt token by token."""
        with self._own_attention():
            yield from super().reply_tokens(prompt, choose)

    @contextmanager
    def _own_attention(self) -> Iterator[None]:
        self.model.set_attn_implementation(self._own)
        try:
            yield
        finally:
            self.model.set_attn_implementation(NAME)


@dataclass(frozen=True)
class RowsOnDevice:
    """Rows that follow each other on a GPU in a batch of one: where they begin and end, (rows + 1,) int32.

    `longest` is known on the host. `windows` are the sizes of windows whose rule was looked at.
    """

    ends: Tensor
    longest: int
    kernel: Kernel
    windows: set[int]

    def mask(self, seen: Seen | None, size: int | None = None) -> Mask:
        """The mask, as a number of tokens; raises UnsupportedError if the rule is not that of a window."""
        if seen is None:
            return _Behind(self, ALL)
        if size is None:
            raise UnsupportedError("own_attention")
        if size not in self.windows:
            require_window(seen, size)
            self.windows.add(size)
        return _Behind(self, size - 1 if size < self.longest else ALL)


@dataclass(frozen=True)
class _Behind:
    """The mask of rows whose tokens see themselves and at most this number of tokens before them."""

    rows: RowsOnDevice
    tokens: int

    def attended(self, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        """The attention of all rows at once; under autocast in its dtype, as that of `scaled_dot_product_attention`."""
        device = query.device.type
        kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else query.dtype
        found: Tensor = self.rows.kernel(
            *(part.squeeze(0).transpose(0, 1).to(kind) for part in (query, key, value)),
            self.rows.ends,
            self.rows.ends,
            self.rows.longest,
            self.rows.longest,
            scale=scale,
            window_size=(self.tokens, 0),
            enable_gqa=query.shape[1] != key.shape[1],
        )
        return found.transpose(0, 1)[None]


def require_window(seen: Seen, size: int) -> None:
    """Raises UnsupportedError unless a token sees itself and the `size - 1` tokens before it; looks at its edges."""
    edges = {0, size - 1, size, size + 1, 2 * size - 1, 2 * size, 2 * size + 1}
    here, there = torch.tensor(sorted(edges))[:, None], torch.arange(2 * size + 2)[None]
    behind = here - there
    try:
        found = seen(here, there)
    except RuntimeError:  # it depends on values of the device
        raise UnsupportedError("own_attention") from None
    if not torch.equal(found, (behind >= 0) & (behind < size)):
        raise UnsupportedError("own_attention")
