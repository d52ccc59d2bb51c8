"""Which tokens of rows are learned, and the places that predict them."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from engine.data.token_store import Row


def targets_of(rows: Sequence[Row]) -> Tensor:
    """The learned tokens of all rows, one after the other, (N,)."""
    return torch.from_numpy(np.concatenate([row.ids[start:end] for row in rows for start, end in row.spans]))


def counts_of(rows: Sequence[Row]) -> list[int]:
    """The number of learned tokens of each row."""
    return [sum(end - start for start, end in row.spans) for row in rows]


def places_of(rows: Sequence[Row], begins: Iterable[int]) -> Tensor:
    """The place of the token before each learned one, (N,), where the rows begin at these places.

    Raises ValueError if a row learns its first token, which nothing predicts.
    """
    spans = [(begin, *span) for row, begin in zip(rows, begins, strict=True) for span in row.spans]
    if any(start < 1 for _, start, _ in spans):
        raise ValueError("the first token of a row cannot be learned")
    return torch.from_numpy(np.concatenate([np.arange(at + start - 1, at + end - 1) for at, start, end in spans]))


def kept_columns(places: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The columns of rows of a width that have some of these places, and the places in the rows of these columns.

    On the host: a device would have it wait to know how many there are.
    """
    kept, at = np.unique(places.numpy() % width, return_inverse=True)
    return torch.from_numpy(kept), places // width * len(kept) + torch.from_numpy(at)
