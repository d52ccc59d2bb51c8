"""Which of two evaluations is better: the trainer publishes by it, and viewers show the best so far by it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from engine.contract.bounds import Count, Real, Score
from engine.contract.durable import read_json_as
from engine.contract.outputdir import OutputDir

FILE = "file"  # the responses verbatim
LABELS = "labels"  # decoded, and cut where the model's are: how earlier versions counted


class Merit(NamedTuple):
    """The values an evaluation is judged by: BLEU (0 to 100) with how and against what it was counted, and the loss."""

    bleu: float
    loss: float
    signature: str
    against: str

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self:
        """The values of an entry of evaluations.json."""
        against = str(entry.get("against", LABELS))
        return cls(float(entry["bleu"]), float(entry["loss"]), str(entry.get("signature")), against)

    def comparable(self, other: "Merit") -> bool:
        """Whether both compute BLEU the same way."""
        return (self.signature, self.against) == (other.signature, other.against)

    def beats(self, other: "Merit") -> bool:
        """Whether this is better: by BLEU, and by the loss if BLEU is equal or not comparable."""
        if not self.comparable(other) or self.bleu == other.bleu:
            return self.loss < other.loss
        return self.bleu > other.bleu


@dataclass(frozen=True)
class Evaluation:
    """One entry of evaluations.json."""

    epoch: Count
    loss: Real
    bleu: Score
    signature: str = ""
    against: str = ""
    published: bool = False
    train_loss: Real | None = None


def read_evaluations(output: OutputDir) -> dict[str, Any]:
    """The evaluations of a run so far, by step; {} if the file is not valid."""
    found = read_json_as(dict[str, Evaluation], output.evaluations)
    return found if all(step.isdecimal() for step in found) else {}
