"""One optimizer step: forward and backward over its micro-batches, exact however they are cut.

The loss is summed over label tokens and divided once by the label tokens of the whole step over all ranks. Each
micro-batch therefore adds its exact share of the gradient, and neither the cut nor the number of ranks matters.
"""

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engine.cpu import placement
from engine.cpu.norms import all_finite, norm, norm_there
from engine.data import batching
from engine.data.batching import Ids, Lengths
from engine.data.token_store import Row, TokenStore
from engine.models.loss import keeping_token_losses
from engine.models.network import Network
from engine.process.gradient_sums import SumsAhead
from engine.process.world import World
from engine.training.step_losses import RowLoss, StepLosses

CLIP_EPSILON = 1e-6  # as in torch, which therefore also scales a norm just below the limit


@dataclass(frozen=True)
class StepResult:
    """The result of a step before its update; the gradient is left in the parameters, summed over all ranks."""

    loss: float  # mean over the label tokens of the step, all ranks
    grad_norm: float  # before clipping
    label_tokens: int
    tokens: int
    padded_tokens: int
    micro_batches: int
    stop_asked: bool  # by any rank
    abandoned: bool  # some rank aborted the step: there is no update to make
    seconds_data: float
    seconds_forward_backward: float
    seconds_communication: float
    rows: tuple[RowLoss, ...] = ()  # of this rank

    @property
    def finite(self) -> bool:
        """Whether the update can be made."""
        return math.isfinite(self.loss) and math.isfinite(self.grad_norm)


def backward(loss: Tensor) -> None:
    """Adds the gradient of a micro-batch's loss, if anything that learns took part in it.

    A model with LayerDrop may leave out every layer, and with them every adapter.
    """
    if loss.requires_grad:
        loss.backward()


@dataclass(frozen=True)
class StepRunner:
    """Computes steps of one run on one rank."""

    network: Network
    store: TokenStore
    world: World
    parameters: list[nn.Parameter]
    micro_batch_tokens: int
    max_grad_norm: float

    def run(self, samples: Ids, *, stop_asked: bool) -> StepResult:
        """Does one step: forward, backward, the sum over ranks, and clipping."""
        began = time.perf_counter()
        self.network.begin_step()
        mine = self._share(samples)
        seconds_data = time.perf_counter() - began
        found, sums = StepLosses(), self._sums_ahead()
        seconds_data += self._compute(mine, found, sums)
        loss, rows = self._read(found)
        padded = sum(self.network.padded(mine.sizes(places)) for places in mine.micro_batches)
        flags = [float(stop_asked), float(self.world.rank_status.orphaned)]
        computed = time.perf_counter()
        own = [] if sums is None else [self._summed_norm(sums)]
        totals = self.world.sum([loss, float(padded), float(len(mine.micro_batches)), *flags], *own)
        abandoned = totals[4] > 0
        if sums is None and not abandoned:
            self._sum_gradients()
        seconds_communication = time.perf_counter() - computed if self.world.size > 1 else 0.0
        grad_norm = math.nan if abandoned else self._clipped(totals[5:])
        seconds = time.perf_counter() - began
        return StepResult(
            loss=totals[0],
            grad_norm=grad_norm,
            label_tokens=mine.label_tokens,
            tokens=int(mine.lengths.total.sum()),
            padded_tokens=int(totals[1]),
            micro_batches=int(totals[2]),
            stop_asked=totals[3] > 0,
            abandoned=abandoned,
            seconds_data=seconds_data,
            seconds_forward_backward=seconds - seconds_data - seconds_communication,
            seconds_communication=seconds_communication,
            rows=tuple(rows),
        )

    def _compute(self, mine: "Share", found: StepLosses, sums: SumsAhead | None) -> float:
        """Adds up the losses and gradients of this rank; returns the seconds that reading rows took."""
        status, seconds = self.world.rank_status, 0.0
        batches = self._batches(map(mine.samples, mine.micro_batches))
        with self.casting():
            for number in range(len(mine.micro_batches)):
                if status.orphaned:
                    break
                began = time.perf_counter()
                chosen, batch = next(batches)
                seconds += time.perf_counter() - began
                with keeping_token_losses() as losses:
                    part = self._loss(chosen, batch, mine.label_tokens)
                last = number == len(mine.micro_batches) - 1
                with nullcontext() if sums is None or not last else sums.during():
                    backward(part)
                found.add(part)
                found.add_rows(chosen, batch, losses)
                status.mark()
        return seconds

    def _batches(self, samples: Iterable[list[int]]) -> Iterator[tuple[list[int], list[Row]]]:
        """The samples and rows of each micro-batch; for a GPU all are read first, and get there by one copy."""
        batches = ((chosen, self.store.rows_at(chosen)) for chosen in samples)
        if self._on_host:
            yield from batches
        else:
            held = list(batches)
            self.network.send([rows for _, rows in held], [chosen for chosen, _ in held])
            yield from held

    def _read(self, found: StepLosses) -> tuple[float, list[RowLoss]]:
        return found.read()

    def _sum_gradients(self) -> None:
        self.world.sum_gradients(self.parameters)

    def _norm(self, gradients: list[Tensor]) -> float:
        return norm(gradients)

    def _sums_ahead(self) -> SumsAhead | None:
        """The sums of gradients that a GPU begins early; a processor has no time to spare while it computes."""
        if self._on_host or self.world.size == 1:
            return None
        return SumsAhead(self.parameters, self.world.rank_status.waiting_for_others)

    @property
    def _on_host(self) -> bool:
        return placement.on_host(self.parameters[0])

    def casting(self) -> AbstractContextManager[None]:
        """What micro-batches are computed within: a GPU casts weights once, a processor's memory is scarcer."""
        return nullcontext() if self._on_host else placement.keeping_casts()

    def _summed_norm(self, sums: SumsAhead) -> Tensor:
        """The norm of the gradients once they are summed, which the host reads with other values."""
        sums.end()
        return norm_there(parameter.grad for parameter in self.parameters if parameter.grad is not None)

    def _clipped(self, known: list[float]) -> float:
        """The gradient's norm before it is scaled down, if that is necessary; torch would multiply by 1 if not."""
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        found = known[0] if known else self._norm(gradients)
        if found + CLIP_EPSILON > self.max_grad_norm:
            torch._foreach_mul_(gradients, self.max_grad_norm / (found + CLIP_EPSILON))
        return found

    def loss_of(self, samples: Ids) -> float:
        """The loss that `run` would find for these samples, by the same arithmetic but without keeping a gradient."""
        self.network.begin_step()
        mine, found = self._share(samples), StepLosses()
        with self.casting():
            for places in mine.micro_batches:
                found.add(self.micro_batch_loss(mine.samples(places), mine.label_tokens))
                self.world.rank_status.mark()
        return self.world.sum([self._read(found)[0]])[0]

    def not_finite(self, samples: Ids) -> list[int]:
        """The samples that are in a micro-batch of this rank whose loss or gradient is not finite.

        Recomputes the step's micro-batches one by one: `run` has already summed their gradients over all ranks.
        """
        self.network.begin_step()
        mine, found = self._share(samples), []
        for places in mine.micro_batches:
            for parameter in self.parameters:
                parameter.grad = None
            part = self.micro_batch_loss(mine.samples(places), mine.label_tokens)
            backward(part)
            gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
            if not (math.isfinite(part.item()) and all_finite(gradients)):
                found += [int(samples[place]) for place in places]
            self.world.rank_status.mark()
        return found

    def _share(self, samples: Ids) -> "Share":
        indices = [int(i) for i in samples]
        lengths = self.store.lengths(indices)
        share = batching.deal(lengths, self.world.size)[self.world.rank]
        return Share(indices, lengths, batching.pack(share, lengths, self.micro_batch_tokens, self.network.measure))

    def micro_batch_loss(self, samples: list[int], label_tokens: int) -> Tensor:
        """The loss of a micro-batch, as its share of a step with `label_tokens` label tokens, with its graph."""
        return self._loss(samples, self.store.rows_at(samples), label_tokens)

    def _loss(self, samples: list[int], rows: list[Row], label_tokens: int) -> Tensor:
        return self.network.summed_loss(rows, samples) / label_tokens


@dataclass(frozen=True)
class Share:
    """The samples of a step, their lengths, and this rank's share of their places in micro-batches."""

    indices: list[int]
    lengths: Lengths
    micro_batches: list[list[int]]

    def samples(self, places: list[int]) -> list[int]:
        """The samples at these places."""
        return [self.indices[place] for place in places]

    @property
    def shortest(self) -> list[int]:
        """The place of the shortest of all samples."""
        return [int(self.lengths.total.argmin())]

    def sizes(self, places: list[int]) -> list[tuple[int, int]]:
        """Lengths of prompts and labels at these places."""
        return [(int(self.lengths.prompt[place]), int(self.lengths.label[place])) for place in places]

    @property
    def label_tokens(self) -> int:
        return int(self.lengths.label.sum())
