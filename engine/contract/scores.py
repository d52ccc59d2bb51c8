"""Which of two evaluations is better: what the trainer publishes by, and what its viewers call the best so far."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from engine.contract.bounds import Count, Real, Score
from engine.contract.rundir import OutputDir, read_json_as

FILE = "file"  # the responses word for word
LABELS = "labels"  # decoded, and cut where the model's are: versions before counted so


class Merit(NamedTuple):
    """What an evaluation is judged by: BLEU (0 to 100) with how it was counted and against what, and the loss."""

    bleu: float
    loss: float
    signature: str
    against: str

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self:
        """That of an entry of evaluations.json."""
        against = str(entry.get("against", LABELS))
        return cls(float(entry["bleu"]), float(entry["loss"]), str(entry.get("signature")), against)

    def comparable(self, other: "Merit") -> bool:
        """Whether both count the same by BLEU."""
        return (self.signature, self.against) == (other.signature, other.against)

    def beats(self, other: "Merit") -> bool:
        """Whether this is better: by BLEU, and by the loss where BLEU is equal or not comparable."""
        if not self.comparable(other) or self.bleu == other.bleu:
            return self.loss < other.loss
        return self.bleu > other.bleu


@dataclass(frozen=True)
class Evaluation:
    """What evaluations.json keeps of one."""

    epoch: Count
    loss: Real
    bleu: Score
    signature: str = ""
    against: str = ""
    published: bool = False
    train_loss: Real | None = None


def read_evaluations(output: OutputDir) -> dict[str, Any]:
    """The evaluations of a run so far, by step; {} where the file does not hold such."""
    found = read_json_as(dict[str, Evaluation], output.evaluations)
    return found if all(step.isdecimal() for step in found) else {}
