"""Any causal model of transformers, run unchanged on rows padded to the longest of them.

And what this has in common with rows end to end on a GPU: the rows of a step are sent there by one copy.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from engine.data.batching import Measure
from engine.data.token_store import Row
from engine.models.causal.computed import CausalNetwork, Given
from engine.models.causal.learned import kept_columns, places_of, targets_of
from engine.models.causal.replies import generated
from engine.models.loss import Head
from engine.models.network import PADDED
from engine.models.padding import Uploads, attention_mask, rows_of


class SentCausal(CausalNetwork):
    """A causal model on a device that rows are sent to, and whose replies are transformers' own."""

    def __init__(self, model: Any, head: Head | None, chunk: int, *, bf16: bool) -> None:
        super().__init__(model, head, chunk, bf16=bf16)
        self._uploads = Uploads(self._laid_out, self._device)

    def send(self, micro_batches: Sequence[Sequence[Row]], _samples: Sequence[Sequence[int]]) -> None:
        """Brings the rows of a step to the device by one copy."""
        self._uploads.send(micro_batches)

    def replies(self, prompts: Sequence[Tensor], longest: int) -> list[list[int]]:
        """Greedy replies to some prompts, as token ids, with the token that ends them."""
        with self._in_its_kind():
            return generated(self.model, prompts, longest, self._device)

    def _laid_out(self, rows: Sequence[Row]) -> list[Tensor]:
        """What is sent of some rows, int64, on the host."""
        raise NotImplementedError

    def _separates(self) -> bool:
        """Whether logits are computed apart from the rest, for learned tokens alone."""
        return self._head is not None

    def _sought(self, rows: Sequence[Row], places: Tensor, width: int) -> list[Tensor]:
        """The places that predict learned tokens, in rows of a width, and these tokens.

        If logits are not computed apart, also the columns that need any, in which the places then are: on a device the
        host would wait to know how many there are.
        """
        if self._separates() or not self._keeps:
            return [places, targets_of(rows)]
        columns, places = kept_columns(places, width)
        return [places, targets_of(rows), columns]

    @staticmethod
    def _given_with(inputs: dict[str, Any], sought: list[Tensor]) -> tuple[Given, Tensor]:
        """What `_batch` returns, with what was sent of `_sought`."""
        places, targets, *columns = sought
        return (inputs | ({"logits_to_keep": columns[0]} if columns else {}), places), targets


class PaddedCausal(SentCausal):
    """A causal model that trains and is scored on rows padded on the right."""

    measure = Measure.ROWS
    layout = PADDED

    def _batch(self, rows: Sequence[Row]) -> tuple[Given, Tensor]:
        ids, lengths, *sought = self._uploads.take(rows)
        return self._given_with({"input_ids": ids, "attention_mask": attention_mask(lengths, ids.shape[1])}, sought)

    def _laid_out(self, rows: Sequence[Row]) -> list[Tensor]:
        """The ids, (rows, longest), lengths, and what `_sought` says of the learned tokens."""
        ids = nn.utils.rnn.pad_sequence([torch.from_numpy(row.ids) for row in rows], batch_first=True)
        width = ids.shape[1]
        places = places_of(rows, range(0, len(rows) * width, width))
        return [ids, torch.tensor([len(row.ids) for row in rows]), *self._sought(rows, places, width)]

    @contextmanager
    def _computing(self, rows: Sequence[Row]) -> Iterator[None]:
        """What the model is run within for some rows: the masks of these lengths too."""
        with super()._computing(rows), rows_of([len(row.ids) for row in rows]):
            yield
