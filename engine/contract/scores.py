"""Which of two evaluations is better: the trainer publishes by it, and viewers show the best so far by it."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from engine.contract.bounds import REST, Count, Real, Score, as_json
from engine.contract.durable import read_json_as, write_json
from engine.contract.outputdir import OutputDir

FILE = "file"  # the responses verbatim
LABELS = "labels"  # decoded, and cut where the model's are: how earlier versions counted


class Merit(NamedTuple):
    """The values an evaluation is judged by: BLEU (0 to 100) with how and against what it was counted, and the loss."""

    bleu: float
    loss: float
    signature: str
    against: str

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
    against: str = LABELS
    train_loss: Real | None = None  # mean over the epoch
    published: bool = False
    rest: dict[str, Any] = field(default_factory=dict, metadata=REST)

    @property
    def merit(self) -> Merit:
        """The values it is judged by."""
        return Merit(self.bleu, self.loss, self.signature, self.against)


Evaluations = dict[int, Evaluation]  # by step


def read_evaluations(output: OutputDir) -> Evaluations:
    """The evaluations of a run so far; {} if the file is not valid."""
    found = read_json_as(dict[str, Evaluation], output.evaluations)
    return {int(step): one for step, one in found.items()} if all(map(str.isdecimal, found)) else {}


def write_evaluations(output: OutputDir, evaluations: Evaluations) -> None:
    """Writes the evaluations of a run so far; raises OSError."""
    write_json(output.evaluations, as_json({str(step): one for step, one in evaluations.items()}))


def best_of(evaluations: Evaluations) -> tuple[int, Evaluation | None]:
    """Step and values of the best evaluation: the last one published, which beat the earlier ones; else (-1, None)."""
    step = max((step for step, one in evaluations.items() if one.published), default=-1)
    return step, evaluations.get(step)
