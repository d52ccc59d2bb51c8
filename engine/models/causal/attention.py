"""The attention of rows laid end to end, as transformers' models call it by the name "rows".

A model makes its masks once in a forward pass and hands them down to every layer. Ours hold where the rows begin, and
the layers' attention is computed row by row, so no token attends to another row and no score between rows exists.
What a token of a row may attend to is asked of the model's own rule, which knows its windows.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import causal_mask_function

from engine.cpu.ragged import Rows

NAME = "rows"

Seen = Callable[[Tensor, Tensor], Tensor]  # whether each query sees each key, by their places in a row


class UnsupportedError(Exception):
    """A model asks for something that is not computed by rows; its text is the last part of a phrase's key."""


class Mask(Protocol):
    """What stands in for the attention mask: it knows the rows, and so computes the attention."""

    def attended(self, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        """The attention's output, (batch, heads, queries, width); query, key and value have the same form."""
        ...


class Pass(Protocol):
    """A forward pass over rows: what it makes of a model's rule."""

    def mask(self, seen: Seen | None, size: int | None = None) -> Mask:
        """The mask of one kind of layer; without `seen` a token sees itself and all before it.

        `size` is that of the rule's window or chunk, in tokens, if it says so.
        """
        ...


_under_way: ContextVar[Pass] = ContextVar("under_way")


@contextmanager
def laid(rows: Pass) -> Iterator[None]:
    """Has the models that are run within compute these rows."""
    token = _under_way.set(rows)
    try:
        yield
    finally:
        _under_way.reset(token)


@dataclass(frozen=True)
class EndToEnd:
    """Rows that follow each other in a batch of one, (1, tokens)."""

    rows: Rows

    def mask(self, seen: Seen | None, size: int | None = None) -> Mask:  # noqa: ARG002
        """The mask, with the places that are hidden though they come before, if a row is long enough to have some."""
        if seen is None:
            return _RowByRow(self.rows, None, self.rows.longest)
        places = torch.arange(self.rows.longest)
        found = seen(places[:, None], places[None])
        narrower = (found != torch.ones_like(found).tril_()).any(dim=1).nonzero()
        return _RowByRow(self.rows, found, int(narrower[0]) if len(narrower) else self.rows.longest)


@dataclass(frozen=True)
class _RowByRow:
    """The mask of rows end to end.

    The first `causal` tokens of a row see all before them; for longer rows `seen` holds, (longest, longest).
    """

    rows: Rows
    seen: Tensor | None
    causal: int

    def attended(self, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        """The attention of each row."""
        queries, keys, values = (part.split(self.rows.lengths, dim=2) for part in (query, key, value))
        found = [self._one(*row, scale) for row in zip(queries, keys, values, strict=True)]
        return found[0] if len(found) == 1 else torch.cat(found, dim=2)

    def _one(self, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        length = query.shape[2]
        grouped = query.shape[1] != key.shape[1]
        if self.seen is None or length <= self.causal:
            return functional.scaled_dot_product_attention(
                query, key, value, is_causal=True, scale=scale, enable_gqa=grouped
            )
        seen = self.seen[:length, :length].to(query.device)
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask=seen, scale=scale, enable_gqa=grouped
        )


def _attention(
    _module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Mask | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """The attention function: (batch, heads, tokens, width) in, (batch, tokens, heads, width) out."""
    if attention_mask is None or isinstance(attention_mask, Tensor):
        raise UnsupportedError("own_attention")
    if dropout:
        raise UnsupportedError("dropout")
    for name in ("softcap", "s_aux", "position_bias"):
        if more.get(name) is not None:
            raise UnsupportedError(name)
    return attention_mask.attended(query, key, value, scaling).transpose(1, 2), None


def _mask(
    *,
    mask_function: Callable[..., Any],
    batch_size: int,
    q_length: int,
    local_size: int | None = None,
    use_vmap: bool = False,
    **_more: Any,
) -> Mask:
    """The mask function, which is called once for each kind of layer; a batch of one is a row if none are under way."""
    rows = _under_way.get(None) or (EndToEnd(Rows((q_length,))) if batch_size == 1 else None)
    if use_vmap or rows is None:
        raise UnsupportedError("own_attention")
    if mask_function is causal_mask_function:
        return rows.mask(None)

    def seen(queries: Tensor, keys: Tensor) -> Tensor:
        none = torch.zeros(1, 1, 1, 1, dtype=torch.int64)
        found: Tensor = mask_function(none, none, queries[None, None], keys[None, None])
        return found.expand(1, 1, len(queries), keys.shape[-1])[0, 0]

    return rows.mask(seen, local_size)


def end_to_end(ids: Tensor, rows: Rows) -> dict[str, Tensor]:
    """A model's inputs for rows whose ids follow each other, (tokens,): positions begin again with each row.

    The attention mask says that nothing is padding; without one, models look for rows in the positions themselves.
    """
    positions = torch.cat([torch.arange(length) for length in rows.lengths])
    return {"input_ids": ids[None], "position_ids": positions[None], "attention_mask": torch.ones_like(ids)[None]}


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, _mask)
