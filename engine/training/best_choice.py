"""Which evaluation of a run is its best: the model of that one is kept, so a choice cannot be taken back."""

from pathlib import Path

from engine.contract.messages import Message
from engine.contract.scores import Evaluation, Evaluations, Scored, best_of, merit, score_phrase
from engine.contract.texts import Phrase


def is_best(this: Evaluation, earlier: Evaluations) -> bool:
    """Whether the model of an evaluation is to be kept in place of the one that was kept before."""
    _, best = best_of(earlier)
    return best is None or merit(this, this.best_by).beats(merit(best, this.best_by))


def incomparable(this: Evaluation, earlier: Evaluations) -> Message | None:
    """The notice that the loss decides, since the model that is kept was scored in another way."""
    _, best = best_of(earlier)
    by = this.best_by
    if best is None or by == "loss" or merit(this, by).comparable(merit(best, by)):
        return None
    return Message.of("score_incomparable", epoch=best.epoch, measure=Phrase(f"measure.{by}"))


def changed_measure(evaluations: Evaluations, by: str, folder: Path) -> list[Message]:
    """What a resumed run has to say if another measure decides now: which model `folder` has, and if one was better."""
    _, kept = best_of(evaluations)
    if kept is None or kept.best_by == by:
        return []
    names = {"before": Phrase(f"measure.{kept.best_by}"), "now": Phrase(f"measure.{by}")}
    said = [Message.of("best_by_changed", epoch=kept.epoch, **names)]
    best = kept
    for one in evaluations.values():
        this, other = merit(one, by), merit(best, by)
        best = one if this.comparable(other) and this.beats(other) else best
    if best is not kept:
        epochs, score = {"epoch": best.epoch, "kept": kept.epoch}, score_phrase(best, by)
        said.append(Message.of("best_not_kept", score=score, path=str(folder), **epochs))
    return said


def worse_than_start(best: Evaluation, start: Scored | None, **shown: str) -> Message | None:
    """The warning that the best model is worse than the one that a run started from, if that was evaluated."""
    if start is None:
        return None
    before, after = merit(start, best.best_by), merit(best, best.best_by)
    if not before.comparable(after) or not before.beats(after):
        return None
    by = "loss" if before.value == after.value else best.best_by
    scores = {"before": score_phrase(start, by), "after": score_phrase(best, by)}
    return Message.of("worse_than_start", epoch=best.epoch, **scores, **shown)
