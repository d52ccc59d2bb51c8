"""A causal model over rows laid end to end: no padding is computed, and no token attends to another row.

The model is transformers' own, but for its attention, which goes row by row.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from engine.cpu.kernels import kernels_for
from engine.cpu.ragged import Rows
from engine.data.batching import Measure
from engine.data.token_store import Row
from engine.models.causal import decoding
from engine.models.causal.attention import EndToEnd, end_to_end, laid
from engine.models.causal.computed import CausalNetwork, Given
from engine.models.causal.learned import places_of
from engine.models.loss import logits_of
from engine.models.network import ends_of

SCORED = 2048  # tokens, beyond which products do not get faster


class PackedCausal(CausalNetwork):
    """A causal model that trains and is scored without padding; its attention must be the one called "rows"."""

    measure = Measure.SUM
    _shares = False  # whether prompts can be computed whose first tokens are in the cache
    _token_numbers: int | None = None  # in the cache of replies

    def scoring_budget(self, budget: int) -> int:
        """Up to four micro-batches: without a backward pass a layer keeps nothing after the next one has begun."""
        return min(4 * budget, max(budget, SCORED))

    def _given(self, rows: Sequence[Row]) -> Given:
        laid_out = _rows_of(rows)
        ids = torch.cat([torch.from_numpy(row.ids) for row in rows])
        places = places_of(rows, (int(begin) for begin in laid_out.ends[:-1]))
        return end_to_end(ids, laid_out), places

    @torch.no_grad()
    def replies(self, prompts: Sequence[Tensor], longest: int) -> list[list[int]]:
        """Greedy replies to some prompts, as token ids, with the token that ends them."""
        with self._in_its_kind():
            if self._token_numbers is None:
                cache = decoding.Cache([1], 1)
                decoding.first_tokens(self._ahead, cache, [prompts[0][:1]])
                self._token_numbers = cache.numbers_for_token()
            return decoding.greedy(
                self._ahead, prompts, ends_of(self.model), longest, self._token_numbers, shares=self._shares
            )

    def _ahead(self, inputs: dict[str, Tensor], cache: decoding.Cache, places: Tensor) -> Tensor:
        """The most likely token after each of some places, (places,)."""
        given = {**inputs, "past_key_values": cache, "use_cache": True}, places
        if self._head is None:
            logits = self._logits(given)
        else:
            logits = logits_of(self._hidden(self._head, given), self._head.weight, self._head.bias)
        return kernels_for(logits).largest(logits)

    @contextmanager
    def _computing(self, rows: Sequence[Row]) -> Iterator[None]:
        with laid(EndToEnd(_rows_of(rows))), self._in_its_kind():
            yield


def _rows_of(rows: Sequence[Row]) -> Rows:
    return Rows(tuple(len(row.ids) for row in rows))
