"""Masks of padded rows, made without looking at their values.

transformers leaves a mask out if no row is padded, which it finds out by reading the mask: on a GPU, a wait in each
micro-batch. Whether rows are padded is known on the host, where they are put together.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch import Tensor
from transformers import AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

_padded: ContextVar[bool | None] = ContextVar("padded", default=None)


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
