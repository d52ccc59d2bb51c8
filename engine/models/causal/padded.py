"""Any causal model of transformers, run unchanged on rows padded to the longest of them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from engine.cpu.placement import uploaded
from engine.data.batching import Measure
from engine.data.token_store import Row
from engine.models.causal.computed import CausalNetwork, Given
from engine.models.causal.learned import places_of
from engine.models.causal.replies import generated
from engine.models.padding import rows_of


class PaddedCausal(CausalNetwork):
    """A causal model that trains and is scored on rows padded on the right."""

    measure = Measure.ROWS

    def _given(self, rows: Sequence[Row]) -> Given:
        lengths = torch.tensor([len(row.ids) for row in rows])
        ids = nn.utils.rnn.pad_sequence([torch.from_numpy(row.ids) for row in rows], batch_first=True)
        width = ids.shape[1]
        mask = (torch.arange(width)[None] < lengths[:, None]).long()
        places = places_of(rows, range(0, len(rows) * width, width))
        ids, mask, places = uploaded([ids, mask, places], self._device)
        return {"input_ids": ids, "attention_mask": mask}, places

    @contextmanager
    def _computing(self, rows: Sequence[Row]) -> Iterator[None]:
        """What the model is run within for some rows: the masks of these lengths too."""
        with super()._computing(rows), rows_of([len(row.ids) for row in rows]):
            yield

    def replies(self, prompts: Sequence[Tensor], longest: int) -> list[list[int]]:
        """Greedy replies to some prompts, as token ids, with the token that ends them."""
        with self._in_its_kind():
            return generated(self.model, prompts, longest, self._device)
