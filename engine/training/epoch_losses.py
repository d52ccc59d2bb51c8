"""Mean losses of epochs, and whether one is above the previous one: a run can get worse while staying finite."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

# In nats: five times the spread of a step's loss times the root of its label tokens (1.2 to 3.9 in real runs). The
# first step of a run has few rows, and its loss is low if they happen to be easy.
SPREAD = 20.0
SLACK = 0.02  # relative to the loss: dropout and the order of rows differ in each epoch


@dataclass(frozen=True)
class Rise:
    """A mean loss above an earlier one: that of the epoch `since`, or of the first step if that is 0."""

    loss: float
    before: float
    since: int


@dataclass
class EpochLosses:
    """Losses of a run as far as this attempt has seen them, as means over label tokens."""

    means: dict[int, float] = field(default_factory=dict)  # of finished epochs, by their numbers
    _first: tuple[float, int] | None = None  # loss and label tokens of the run's first step
    _sum: float = 0.0
    _tokens: int = 0

    def resume(self, means: Mapping[int, float]) -> None:
        """Takes over the means that earlier attempts found."""
        self.means.update(means)

    def add(self, loss: float, label_tokens: int, *, first: bool) -> None:
        """Adds a step; `first` if it is the first of the run."""
        if first:
            self._first = (loss, label_tokens)
        self._sum += loss * label_tokens
        self._tokens += label_tokens

    def end(self, epoch: int) -> Rise | None:
        """Ends an epoch; returns the rise of its loss, if it is more than chance."""
        if not self._tokens:
            return None
        mean, tokens = self._sum / self._tokens, self._tokens
        self._sum, self._tokens = 0.0, 0
        self.means[epoch] = mean
        if epoch - 1 in self.means:
            before, count, since = self.means[epoch - 1], tokens, epoch - 1
        elif self._first is not None and epoch == 1:
            (before, count), since = self._first, 0
        else:
            return None
        chance = SPREAD / math.sqrt(count) + SLACK * abs(before)
        return Rise(mean, before, since) if mean > before + chance else None
