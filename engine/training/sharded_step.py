"""A step of a model that is divided among the ranks: all of them compute as many micro-batches, at the same time.

A rank whose rows need fewer computes one row again that counts nothing. Gradients are summed by each backward pass.
"""

import math
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from engine.cpu.norms import all_finite, norm
from engine.data import batching
from engine.data.batching import Ids
from engine.models.loss import keeping_token_losses
from engine.process.gradient_sums import SumsAhead
from engine.training.step import Share, StepResult, StepRunner, backward
from engine.training.step_losses import RowLoss, StepLosses

if TYPE_CHECKING:
    from engine.models.sharding import Shards


@dataclass(frozen=True)
class ShardedRunner(StepRunner):
    """Computes steps of one run on one rank of those that a model is divided among."""

    shards: "Shards"

    def run(self, samples: Ids, *, stop_asked: bool) -> StepResult:
        """Does one step; the gradients of this rank's share are left in its parameters."""
        self.shards.drop_gradients()
        found = super().run(samples, stop_asked=stop_asked)
        self.shards.drop_gradients()
        return found

    def _compute(self, mine: Share, found: StepLosses, _sums: SumsAhead | None) -> float:
        """Forward and backward of all micro-batches; a rank that lost its parent continues, for the others need it."""
        seconds, rounds = 0.0, self._rounds(mine)
        batches = self._batches(mine.samples(places or mine.shortest) for places in rounds)
        for places in rounds:
            began = time.perf_counter()
            chosen, batch = next(batches)
            seconds += time.perf_counter() - began
            with keeping_token_losses() as losses:
                part = self._loss(chosen, batch, mine.label_tokens)
            if places:
                backward(part)
                found.add(part)
                found.add_rows(chosen, batch, losses)
            else:
                backward(part * 0.0)
            self.world.rank_status.mark()
        return seconds

    def _sums_ahead(self) -> None:
        """None: each backward pass sums its gradients."""

    def casting(self) -> AbstractContextManager[None]:
        """Nothing: casts of weights are dropped with them after each layer."""
        return nullcontext()

    def _rounds(self, mine: Share) -> list[list[int]]:
        """The micro-batches of this rank, and empty ones until there are as many as another rank has."""
        shares = batching.deal(mine.lengths, self.world.size)
        packed = (batching.pack(s, mine.lengths, self.micro_batch_tokens, self.network.measure) for s in shares)
        return [*mine.micro_batches, *[[]] * (max(map(len, packed)) - len(mine.micro_batches))]

    def _read(self, found: StepLosses) -> tuple[float, list[RowLoss]]:
        """The losses; a GPU, which is waited for only here, may wait for another rank's in any layer."""
        with nullcontext() if self._on_host else self.world.rank_status.waiting_for_others():
            return super()._read(found)

    def _sum_gradients(self) -> None:
        self.shards.take_gradients()

    def _norm(self, gradients: list[Tensor]) -> float:
        held = [gradient for gradient in gradients if gradient.numel()]
        return math.sqrt(self.world.sum([norm(held) ** 2])[0])

    def loss_of(self, samples: Ids) -> float:
        """The loss that `run` would find for these samples, by the same arithmetic but without keeping a gradient."""
        self.network.begin_step()
        mine, found = self._share(samples), StepLosses()
        for places in self._rounds(mine):
            part = self.micro_batch_loss(mine.samples(places or mine.shortest), mine.label_tokens)
            if places:
                found.add(part)
            self.world.rank_status.mark()
        return self.world.sum([self._read(found)[0]])[0]

    def not_finite(self, samples: Ids) -> list[int]:
        """The samples of this rank whose micro-batch has a loss that is not finite.

        If only a gradient is not, those of all ranks that were computed at the same time: it is summed already.
        """
        self.network.begin_step()
        mine, found = self._share(samples), []
        for places in self._rounds(mine):
            self.shards.drop_gradients()
            part = self.micro_batch_loss(mine.samples(places or mine.shortest), mine.label_tokens)
            backward(part if places else part * 0.0)
            own = bool(places) and not math.isfinite(part.item())
            summed = [parameter.grad for parameter in self.shards.divided.values()]
            finite = all_finite(_local(gradient) for gradient in summed if gradient is not None)
            losses, gradients = self.world.sum([float(own), float(not finite)])
            if own or (gradients and not losses):
                found += [int(samples[place]) for place in places]
            self.world.rank_status.mark()
        self.shards.drop_gradients()
        return found


def _local(gradient: Any) -> Tensor:
    found: Tensor = gradient.to_local()
    return found
