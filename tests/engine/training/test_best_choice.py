"""Which model a run keeps, and what it says when another measure decides."""

import math
from pathlib import Path

import pytest

from engine.contract.messages import Message
from engine.contract.scores import Evaluation, Evaluations, Measured
from engine.training.best_choice import changed_measure, incomparable, is_best, worse_than_start

BEST = Path("model_save/x/best")


def scored(
    epoch: int, loss: float, bleu: float, chrf: float, by: str = "bleu", *, published: bool = False
) -> Evaluation:
    """An evaluation of an epoch."""
    measures = {"chrf": Measured(chrf, "nc:6")}
    return Evaluation(epoch, loss, bleu, "tok:zh", "file", published=published, measures=measures, best_by=by)


FIRST = scored(1, 2.0, 30.0, 20.0, published=True)
SECOND = scored(2, 1.5, 20.0, 40.0)
EARLIER: Evaluations = {5: FIRST, 10: SECOND}


@pytest.mark.parametrize(
    ("this", "kept"),
    [
        (scored(3, 1.0, 29.0, 99.0, "bleu"), False),
        (scored(3, 9.0, 31.0, 0.0, "bleu"), True),
        (scored(3, 9.0, 0.0, 21.0, "chrf"), True),  # better than the model that is kept, though not than the second
        (scored(3, 1.0, 99.0, 19.0, "chrf"), False),
        (scored(3, 1.9, 0.0, 0.0, "loss"), True),
        (scored(3, 2.1, 99.0, 99.0, "loss"), False),
    ],
    ids=lambda value: value.best_by if isinstance(value, Evaluation) else str(value),
)
def test_a_model_is_kept_if_it_beats_the_one_that_is_kept(this: Evaluation, kept: bool) -> None:
    assert is_best(this, EARLIER) == kept


def test_the_first_evaluation_is_the_best() -> None:
    assert is_best(SECOND, {})


def test_a_resume_by_another_measure_says_what_is_kept_and_what_is_lost() -> None:
    changed, lost = changed_measure(EARLIER, "chrf", BEST)
    assert "decided by BLEU" in changed.what("en")
    assert "decided by chrF from now on" in changed.what("en")
    assert "the model of epoch 1 is kept" in changed.what("en")
    assert "epoch 2 was better (chrF 40.00)" in lost.what("en")
    assert str(BEST) in lost.what("en")
    assert "epoch 1" in lost.what("en")


def test_a_resume_by_another_measure_with_the_same_best_says_only_that() -> None:
    best_of_both = {5: FIRST, 10: scored(2, 2.5, 20.0, 10.0)}
    assert [message.code for message in changed_measure(best_of_both, "loss", BEST)] == ["best_by_changed"]


@pytest.mark.parametrize(("evaluations", "by"), [({}, "loss"), (EARLIER, "bleu")])
def test_an_unchanged_measure_needs_no_words(evaluations: Evaluations, by: str) -> None:
    assert changed_measure(evaluations, by, BEST) == []


def test_an_old_run_resumed_by_a_new_measure_says_that_the_loss_decides() -> None:
    old = {5: Evaluation(1, 2.0, 30.0, "tok:zh", "file", published=True)}
    message = incomparable(scored(2, 1.0, 40.0, 50.0, by="chrf"), old)
    assert message is not None
    assert "no chrF" in message.what("en")
    assert is_best(scored(2, 1.0, 0.0, 0.0, by="chrf"), old)
    assert not is_best(scored(2, 3.0, 99.0, 99.0, by="chrf"), old)


@pytest.mark.parametrize("by", ["bleu", "chrf", "loss"])
def test_scores_of_one_kind_are_compared_without_words(by: str) -> None:
    said: Message | None = incomparable(scored(3, 1.0, 40.0, 50.0, by=by), EARLIER)
    assert said is None


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (scored(0, 1.9, 30.5, 0.0), "BLEU 30.50 before the first step, and BLEU 30.00 after epoch 1"),
        (scored(0, 1.9, 30.0, 0.0), "loss 1.9000 before the first step, and loss 2.0000 after epoch 1"),
        (scored(0, 1.9, 29.0, 99.0), ""),  # another measure decides
        (scored(0, 2.0, 30.0, 20.0), ""),
        (scored(0, 1.9, math.nan, 0.0), ""),
        (None, ""),
    ],
)
def test_a_run_says_that_the_model_was_better_before_it(start: Evaluation | None, said: str) -> None:
    worse = worse_than_start(FIRST, start, path="best", rate="1")
    assert worse is None if not said else worse is not None and said in worse.what("en")
