"""What `engine.weigh` answers: how rows of a run's data begin, and the loss of each of their tokens."""

from dataclasses import dataclass
from typing import Annotated, Literal

from engine.contract.bounds import Count, Longest, Real
from engine.contract.facts import MOST_SHOWN

LONGEST_BEGINNING = 400  # characters
MOST_BEGINNINGS = 1 << 12
Origin = Literal["best", "checkpoint", "base"]  # of the weights


@dataclass(frozen=True)
class RowBeginning:
    """How a row begins: what comes before its first learned token, and the text from there on.

    `changed`: the data file has another row in its place by now, which is not shown.
    """

    sample: Count
    given: Annotated[str, Longest(LONGEST_BEGINNING)] = ""
    learned: Annotated[str, Longest(LONGEST_BEGINNING)] = ""
    changed: bool = False


@dataclass(frozen=True)
class Beginnings:
    """The beginnings of some rows, in the order in which they were asked for."""

    rows: Annotated[tuple[RowBeginning, ...], Longest(MOST_BEGINNINGS)]


@dataclass(frozen=True)
class WeighedRow:
    """The tokens of a row, those that are learned as spans, and the loss of each learned one, in order.

    `origin` and `step` say which weights computed them: the best model, the newest checkpoint, or the run's first.
    """

    sample: Count
    texts: Annotated[tuple[str, ...], Longest(MOST_SHOWN)]
    learned: Annotated[tuple[tuple[Count, Count], ...], Longest(MOST_SHOWN)]
    losses: Annotated[tuple[Real, ...], Longest(MOST_SHOWN)]
    origin: Origin
    step: Count = 0

    def __post_init__(self) -> None:
        """Raises ValueError if there is not one loss for each learned token."""
        if sum(max(0, end - start) for start, end in self.learned) != len(self.losses):
            raise ValueError("a loss for each learned token")

    def token_losses(self) -> list[tuple[str, float | None]]:
        """Each token's text with its loss; None for a token that is not learned."""
        losses = iter(self.losses)
        places = {place for start, end in self.learned for place in range(start, min(end, len(self.texts)))}
        return [(text, next(losses, None) if place in places else None) for place, text in enumerate(self.texts)]
