"""Which of two evaluations is better: what the trainer publishes by, and what its viewers call the best so far."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

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
