"""Which evaluation is the better one, by any measure."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.contract.bounds import as_json, read_as
from engine.contract.config import setting_of
from engine.contract.durable import read_json, write_json
from engine.contract.events import Eval
from engine.contract.outputdir import OutputDir
from engine.contract.scores import (
    DECISIVE,
    FILE,
    LABELS,
    MEASURES,
    Evaluation,
    Measured,
    all_measures,
    best_of,
    decisive,
    merit,
    read_evaluations,
    score_phrase,
    score_phrases,
    write_evaluations,
)
from engine.contract.texts import listed

ZH, CHAR = "tok:zh", "tok:char"
Values = tuple[float, float, str, str]
OLD = Evaluation(1, 2.0, 3.0, ZH)  # of a version that knew only BLEU


def scored(value: float, loss: float, signature: str = ZH, against: str = FILE, by: str = "bleu") -> Evaluation:
    """An evaluation whose measure `by` has a value; all others are missing."""
    if by == "bleu":
        return Evaluation(1, loss, value, signature, against)
    return Evaluation(1, loss, math.nan, "", against, measures={by: Measured(value, signature)})


@pytest.mark.parametrize("by", ["bleu", "chrf", "rouge-l", "exact-match"])
@pytest.mark.parametrize(
    ("one", "other", "better"),
    [
        ((5.0, 3.0, ZH, FILE), (4.0, 2.0, ZH, FILE), True),
        ((4.0, 2.0, ZH, FILE), (5.0, 3.0, ZH, FILE), False),
        ((5.0, 2.0, ZH, FILE), (5.0, 3.0, ZH, FILE), True),
        ((5.0, 3.0, ZH, FILE), (5.0, 3.0, ZH, FILE), False),
        ((1.0, 2.0, ZH, FILE), (90.0, 3.0, ZH, LABELS), True),  # the loss decides
        ((90.0, 3.0, ZH, FILE), (1.0, 2.0, ZH, LABELS), False),
        ((1.0, 2.0, CHAR, FILE), (9.0, 3.0, ZH, FILE), True),
    ],
)
def test_the_measure_decides_if_its_signatures_agree_and_else_the_loss(
    by: str, one: Values, other: Values, better: bool
) -> None:
    assert merit(scored(*one, by=by), by).beats(merit(scored(*other, by=by), by)) == better


def test_by_the_loss_no_other_score_counts() -> None:
    lower, higher = scored(1.0, 2.0, CHAR, LABELS), scored(90.0, 3.0)
    assert merit(lower, "loss").beats(merit(higher, "loss"))
    assert merit(lower, "loss").comparable(merit(higher, "loss"))
    assert not merit(higher, "loss").beats(merit(lower, "loss"))


@pytest.mark.parametrize("by", ["chrf", "measure-of-a-newer-version"])
@pytest.mark.parametrize("other", [OLD, scored(90.0, 3.0, by="chrf")], ids=["without", "with"])
def test_the_loss_decides_over_an_evaluation_that_lacks_the_measure(by: str, other: Evaluation) -> None:
    new = replace(OLD, loss=1.5)
    assert merit(new, by).beats(merit(other, by))
    assert not merit(other, by).beats(merit(new, by))


@pytest.mark.parametrize("values", [(math.nan, 5.0), (5.0, math.nan), (math.nan, math.nan)], ids=repr)
def test_a_score_that_is_not_a_number_leaves_the_choice_to_the_loss(values: tuple[float, float]) -> None:
    one, other = (merit(scored(value, loss), "bleu") for value, loss in zip(values, (1.0, 2.0), strict=True))
    assert one.beats(other)
    assert not other.beats(one)


@pytest.mark.parametrize(
    ("best_by", "rows", "expected"),
    [("auto", "pairs", "bleu"), ("auto", "chat", "loss"), ("chrf", "pairs", "chrf"), ("bleu", "chat", "bleu")],
)
def test_bleu_decides_for_pairs_and_the_loss_for_conversations(best_by: str, rows: str, expected: str) -> None:
    assert decisive(best_by, rows) == expected


def test_the_setting_names_every_measure_that_can_decide() -> None:
    assert setting_of("best_by").choices == ("auto", *DECISIVE)
    assert set(DECISIVE) < set(MEASURES)


def test_a_score_without_reference_kind_is_one_against_labels() -> None:
    """By a version that knew no others."""
    entry = {"epoch": 1, "loss": 2.0, "bleu": 3.0, "signature": ZH, "published": True}
    old, new = (read_as(Evaluation, values) for values in (entry, {**entry, "against": FILE}))
    assert merit(old, "bleu").against == merit(Eval(1, 5, 9, 2.0, 3.0, 9, ZH, 0.1), "bleu").against == LABELS
    assert merit(new, "bleu") == merit(Eval(1, 5, 9, 2.0, 3.0, 9, ZH, 0.1, FILE), "bleu")


def test_the_deciding_measure_is_named_first() -> None:
    one = replace(OLD, measures={"perplexity": Measured(7.389, "e"), "chrf": Measured(33.0, "c")}, best_by="chrf")
    assert list(all_measures(one)) == ["loss", "perplexity", "bleu", "chrf"]
    assert listed(score_phrases(one), "en") == "chrF 33.00, loss 2.0000, perplexity 7.39, BLEU 3.00"
    assert score_phrase(one).text("zh") == "chrF 33.00"
    assert score_phrase(replace(one, best_by="newer")).text("en") == "loss 2.0000"


def test_an_old_evaluation_has_its_loss_and_bleu_alone() -> None:
    assert listed(score_phrases(OLD), "en") == "BLEU 3.00, loss 2.0000"
    assert listed(score_phrases(replace(OLD, bleu=math.nan, signature="")), "en") == "loss 2.0000"


@pytest.mark.parametrize(("value", "expected"), [(15.3, "15.30"), (123456.7, "1.23e+05"), (math.inf, "inf")])
def test_a_perplexity_of_any_size_is_short(value: float, expected: str) -> None:
    one = replace(OLD, measures={"perplexity": Measured(value, "e")})
    assert score_phrase(one, "perplexity").text("en") == f"perplexity {expected}"


SOUND = {"epoch": 1, "loss": 2.0, "bleu": 3.0, "signature": ZH, "published": True, "train_loss": None}


@pytest.mark.parametrize(
    "change",
    [
        {"5": {**SOUND, "loss": "low"}},
        {"5": {**SOUND, "bleu": 10**400}},
        {"5": {**SOUND, "epoch": -1}},
        {"5": {**SOUND, "measures": {"chrf": {"value": 10**400, "signature": ""}}}},
        {"5": {**SOUND, "measures": {"chrf": 31.5}}},
        {"5": {**SOUND, "measures": {str(n): {"value": 1.0, "signature": ""} for n in range(99)}}},
        {"5": []},
        {"five": SOUND},
        {"5": {"epoch": 1}},
    ],
    ids=lambda change: repr(change)[:80],
)
def test_impossible_evaluations_are_ignored(tmp_path: Path, change: dict[str, Any]) -> None:
    output = OutputDir(tmp_path)
    write_json(output.evaluations, {"4": SOUND})
    assert read_evaluations(output) == {4: Evaluation(1, 2.0, 3.0, ZH, published=True)}

    write_json(output.evaluations, {"4": SOUND, **change})

    assert read_evaluations(output) == {}


def test_what_a_newer_version_adds_to_an_evaluation_is_kept(tmp_path: Path) -> None:
    output = OutputDir(tmp_path)
    newer = {"4": {**as_json(OLD), "against": FILE, "meteor": [31.5, {"order": 6}]}}
    write_json(output.evaluations, newer)

    write_evaluations(output, {**read_evaluations(output), 8: Evaluation(2, float("nan"), 4.0, ZH)})

    assert read_json(output.evaluations)["4"] == newer["4"]
    assert read_evaluations(output).keys() == {4, 8}


def test_the_best_evaluation_is_the_last_that_was_published() -> None:
    one, two, three = (Evaluation(epoch, 2.0, 3.0, published=epoch < 3) for epoch in (1, 2, 3))

    assert best_of({4: one, 8: two, 12: three}) == (8, two)
    assert best_of({12: three}) == best_of({}) == (-1, None)
