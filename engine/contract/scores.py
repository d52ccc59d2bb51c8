"""Scores of an evaluation, and which of two is better: the trainer publishes by it, and viewers show the best by it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple, Protocol

from engine.contract.bounds import REST, Count, Longest, Name, Real, Score, as_json
from engine.contract.durable import read_json_as, write_json
from engine.contract.outputdir import OutputDir
from engine.contract.texts import Phrase

FILE = "file"  # the responses verbatim
LABELS = "labels"  # decoded, and cut where the model's are: how earlier versions counted
LOSS_SIGNATURE = "mean:cross-entropy|log:e|per:learned-token"
MEASURES = ("loss", "perplexity", "bleu", "chrf", "rouge-l", "exact-match")  # in the order in which they are shown
DECISIVE = ("loss", "bleu", "chrf", "rouge-l", "exact-match")  # what `best_by` may name
MOST_MEASURES = 32  # of an evaluation, with those of newer versions


@dataclass(frozen=True)
class Measured:
    """A value of an evaluation, and the signature that says how it was computed: equal ones are comparable."""

    value: Real
    signature: Name


Measures = Annotated[dict[Name, Measured], Longest(MOST_MEASURES)]


class Scored(Protocol):
    """An evaluation: `measures` has what it knows apart from the loss and BLEU; earlier versions knew only those."""

    @property
    def loss(self) -> float:
        """The mean over learned tokens."""

    @property
    def bleu(self) -> float:
        """0 to 100; NaN if no replies were generated."""

    @property
    def signature(self) -> str:
        """That of BLEU."""

    @property
    def against(self) -> str:
        """What replies were compared with: `FILE` or `LABELS`."""

    @property
    def measures(self) -> Mapping[str, Measured]:
        """The others, by name."""

    @property
    def best_by(self) -> str:
        """The measure that decides which evaluation is the best."""


class Merit(NamedTuple):
    """The values an evaluation is judged by: that of the measure `by` with how it was computed, and the loss."""

    by: str
    value: float
    loss: float
    signature: str
    against: str

    def comparable(self, other: "Merit") -> bool:
        """Whether both have the measure, computed the same way, so that it can decide."""
        how, other_how = ((one.by, one.signature, one.against) for one in (self, other))
        return how == other_how and not math.isnan(self.value) and not math.isnan(other.value)

    def beats(self, other: "Merit") -> bool:
        """Whether this is better: by the measure, and by the loss if that is equal or not comparable."""
        if self.by == "loss" or self.value == other.value or not self.comparable(other):
            return self.loss < other.loss
        return self.value > other.value


def merit(one: Scored, by: str) -> Merit:
    """What an evaluation is worth by a measure; one that lacks the measure is comparable with none that has it."""
    if by == "loss":
        return Merit(by, one.loss, one.loss, LOSS_SIGNATURE, "")
    found = all_measures(one).get(by, Measured(math.nan, ""))
    return Merit(by, found.value, one.loss, found.signature, one.against)


def all_measures(one: Scored) -> dict[str, Measured]:
    """Every measure that an evaluation has, in the order in which they are shown."""
    known = {"loss": Measured(one.loss, LOSS_SIGNATURE), **one.measures}
    if one.signature or not math.isnan(one.bleu):
        known["bleu"] = Measured(one.bleu, one.signature)
    return {name: known[name] for name in MEASURES if name in known}


def decisive(best_by: str, rows: str) -> str:
    """The measure that decides: of `auto`, BLEU for prompts with responses, and the loss for conversations.

    `rows`: what the family of the model learns from. The many good answers of a conversation share few words, so that
    BLEU is noise there.
    """
    if best_by != "auto":
        return best_by
    return "bleu" if rows == "pairs" else "loss"


def score_phrase(one: Scored, by: str = "") -> Phrase:
    """A measure of an evaluation with its value, `BLEU 12.25`: `by`, or the one that decides, or else the loss."""
    known = all_measures(one)
    name = by or one.best_by
    name = name if name in known else "loss"
    return Phrase.of(f"score.{name}", value=shown(name, known[name].value))


def score_phrases(one: Scored) -> tuple[Phrase, ...]:
    """All measures of an evaluation, the one that decides first."""
    names = sorted(all_measures(one), key=lambda name: name != one.best_by)
    return tuple(score_phrase(one, name) for name in names)


def shown(name: str, value: float) -> str:
    """A measure's value with its usual digits."""
    if name == "loss":
        return f"{value:.4f}"
    if name == "perplexity" and value >= 1e5:
        return f"{value:.2e}"
    return f"{value:.2f}"


@dataclass(frozen=True)
class MergeLosses:
    """The mean loss of the first validation rows with an adapter, and with the weights that it was merged into."""

    rows: Count
    adapter: Real
    merged: Real

    @property
    def change(self) -> float:
        """By how much merging raises the loss, as a share of it."""
        return (self.merged - self.adapter) / max(abs(self.adapter), 1e-12)


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
    measures: Measures = field(default_factory=dict)
    best_by: Name = "bleu"  # the measure that decided
    merge: MergeLosses | None = None  # of what was published, if an adapter learned
    rest: dict[str, Any] = field(default_factory=dict, metadata=REST)


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
