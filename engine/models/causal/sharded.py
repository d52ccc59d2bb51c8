"""A causal model that is divided among all ranks, on padded rows: every rank computes at the same time."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from engine.data.token_store import Row
from engine.models.causal.padded import PaddedCausal
from engine.models.causal.replies import generated
from engine.models.loss import declared_head
from engine.models.sharding import Shards
from engine.process.world import World

T = TypeVar("T")


class ShardedCausal(PaddedCausal):
    """A causal model of which this rank has a share; each method must be called on all ranks together.

    `separable`: whether its head can be computed a chunk of tokens at a time.
    """

    together = True

    def __init__(self, model: Any, shards: Shards, world: World, *, separable: bool, chunk: int, bf16: bool) -> None:
        super().__init__(model, None, chunk, bf16=bf16)
        self._shards, self._world, self._separable, self._device = shards, world, separable, world.device

    def begin_step(self) -> None:
        """Has the weights outside the layers put together again, for they may have changed."""
        self._shards.root.reshard()

    def drop_frozen_fp32(self) -> None:
        """Nothing: frozen weights were cast before the model was divided."""

    def summed_loss(self, rows: Sequence[Row], _samples: Sequence[int] | None = None) -> Tensor:
        """Cross-entropy summed over the learned tokens of this rank's rows, float64, with its graph."""
        return self._whole(lambda: PaddedCausal.summed_loss(self, rows))

    @torch.no_grad()
    def row_losses(self, rows: Sequence[Row]) -> list[float]:
        """The same for each row separately, without a graph."""
        return self._whole(lambda: PaddedCausal.row_losses(self, rows))

    @torch.no_grad()
    def replies(self, prompts: Sequence[Tensor], longest: int) -> list[list[int]]:
        """Greedy replies to some prompts of this rank, as token ids, with the token that ends them.

        Prompts of one length are generated together; a rank that has none left computes along with the others.
        """
        lengths = sorted({len(prompt) for prompt in prompts}, reverse=True)
        found: dict[int, list[int]] = {}
        for number in range(max(self._world.gather([len(lengths)]))):
            own = number < len(lengths)
            places = [at for at, prompt in enumerate(prompts) if own and len(prompt) == lengths[number]]
            some = [prompts[at] for at in places] or [prompts[0][:1]]
            replies = self._replied(some, longest if own else 1)
            found |= zip(places, replies, strict=False)
        return [found[place] for place in range(len(prompts))]

    def _separates(self) -> bool:
        return self._separable

    def _replied(self, prompts: list[Tensor], longest: int) -> list[list[int]]:
        def reply() -> list[list[int]]:
            with self._in_its_kind():
                return generated(self.model, prompts, longest, self._device, together=True)

        return self._whole(reply)

    def _whole(self, compute: Callable[[], T]) -> T:
        """What is computed with the weights outside the layers put together; its head is the one that they make."""

        def within() -> T:
            self._head = declared_head(self.model) if self._separable else None
            try:
                return compute()
            finally:
                self._head = None

        found: T = self._shards.root(within)
        return found

    def _in_its_kind(self) -> torch.autocast:
        """Autocast that keeps no copies of weights, which are dropped after each layer."""
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16, cache_enabled=False)
