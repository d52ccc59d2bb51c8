"""Padded rows on a device: brought there without a wait, and their masks made without looking at values.

transformers leaves a mask out if no row is padded, which it finds out by reading the mask: on a GPU, a wait in each
micro-batch. Whether rows are padded is known on the host, where they are put together.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from engine.cpu import placement
from engine.data.token_store import Row

_padded: ContextVar[bool | None] = ContextVar("padded", default=None)


class Uploads:
    """The tensors of micro-batches on a device: those of a step, sent ahead, by one copy."""

    def __init__(self, laid_out: Callable[[Sequence[Row]], list[Tensor]], device: torch.device) -> None:
        """`laid_out` returns the tensors of some rows, int64, on the host."""
        self._laid_out, self._device = laid_out, device
        self._sent: deque[tuple[Sequence[Row], list[Tensor]]] = deque()

    def send(self, micro_batches: Sequence[Sequence[Row]]) -> None:
        """Sends the micro-batches of a step, which are then taken in this order."""
        parts = [self._laid_out(rows) for rows in micro_batches]
        flat = iter(placement.uploaded([tensor for part in parts for tensor in part], self._device))
        found = [[next(flat) for _ in part] for part in parts]
        self._sent = deque(zip(micro_batches, found, strict=True))

    def take(self, rows: Sequence[Row]) -> list[Tensor]:
        """The tensors of some rows, which are copied now unless they were sent."""
        if self._sent and self._sent[0][0] is rows:
            return self._sent.popleft()[1]
        return placement.uploaded(self._laid_out(rows), self._device)


def attention_mask(lengths: Tensor, width: int) -> Tensor:
    """1 for each token of rows of these lengths, 0 for padding; (rows, width) int64, made where `lengths` are."""
    return (torch.arange(width, device=lengths.device)[None] < lengths[:, None]).long()


@contextmanager
def rows_of(lengths: Sequence[int]) -> Iterator[None]:
    """Has the models that are run within make masks for rows of these lengths, padded to the longest."""
    token = _padded.set(min(lengths) < max(lengths))
    try:
        yield
    finally:
        _padded.reset(token)


def _mask(*, attention_mask: Tensor | None = None, **more: Any) -> Tensor | None:
    """transformers' masks for SDPA; of rows of known lengths, the same without a decision by values."""
    padded = _padded.get()
    if padded is None or attention_mask is None:
        return sdpa_mask(attention_mask=attention_mask, **more)
    if not padded:
        return sdpa_mask(attention_mask=None, **more)
    never = {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
    return sdpa_mask(attention_mask=attention_mask, **{**more, **never})


AttentionMaskInterface.register("sdpa", _mask)
