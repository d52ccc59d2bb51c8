"""The losses of a step, which stay on their device until its end: the host waits for them once, not a micro-batch."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from engine.data.token_store import Row

RowLoss = tuple[int, int, float]  # a sample, the number of its learned tokens, and their losses summed


@dataclass
class StepLosses:
    """The losses of the micro-batches of a step, and of the tokens in them."""

    _parts: list[Tensor] = field(default_factory=list)
    _tokens: list[Tensor] = field(default_factory=list)
    _rows: list[tuple[int, int]] = field(default_factory=list)  # samples, and the number of their learned tokens

    def add(self, part: Tensor) -> None:
        """Adds the loss of a micro-batch."""
        self._parts.append(part.detach().double())

    def add_rows(self, samples: list[int], rows: list[Row], losses: list[Tensor]) -> None:
        """Adds the losses of the learned tokens of its rows, row after row.

        Nothing if a network sums its loss otherwise, so that the losses of tokens are unknown.
        """
        counts = [sum(end - start for start, end in row.spans) for row in rows]
        if sum(map(len, losses)) == sum(counts):
            self._tokens += losses
            self._rows += zip(samples, counts, strict=True)

    def read(self) -> tuple[float, list[RowLoss]]:
        """The sum over micro-batches, and the losses of rows, in one copy."""
        if not self._parts:
            return 0.0, []
        held = [torch.stack(self._parts), *(losses.double() for losses in self._tokens)]
        counts = [count for _, count in self._rows]
        of_parts, *of_rows = torch.cat(held).cpu().split([len(self._parts), *counts])
        loss = 0.0
        for part in of_parts.numpy():
            loss += float(part)  # in this order; `sum` would compensate, and other versions of Python would not
        found = zip(self._rows, of_rows, strict=True)
        return loss, [(sample, count, float(part.numpy().sum())) for (sample, count), part in found]
