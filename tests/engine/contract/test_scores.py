"""Which evaluation is the better one."""

from pathlib import Path
from typing import Any

import pytest

from engine.contract.bounds import read_as
from engine.contract.durable import read_json, write_json
from engine.contract.events import Eval
from engine.contract.outputdir import OutputDir
from engine.contract.scores import FILE, LABELS, Evaluation, Merit, best_of, read_evaluations, write_evaluations

ZH, CHAR = "tok:zh", "tok:char"


@pytest.mark.parametrize(
    ("one", "other", "better"),
    [
        (Merit(5.0, 3.0, ZH, FILE), Merit(4.0, 2.0, ZH, FILE), True),
        (Merit(4.0, 2.0, ZH, FILE), Merit(5.0, 3.0, ZH, FILE), False),
        (Merit(5.0, 2.0, ZH, FILE), Merit(5.0, 3.0, ZH, FILE), True),
        (Merit(5.0, 3.0, ZH, FILE), Merit(5.0, 3.0, ZH, FILE), False),
        (Merit(1.0, 2.0, ZH, FILE), Merit(90.0, 3.0, ZH, LABELS), True),  # the loss decides
        (Merit(90.0, 3.0, ZH, FILE), Merit(1.0, 2.0, ZH, LABELS), False),
        (Merit(1.0, 2.0, CHAR, FILE), Merit(9.0, 3.0, ZH, FILE), True),
    ],
)
def test_bleu_decides_if_its_signatures_agree_and_else_the_loss(one: Merit, other: Merit, better: bool) -> None:
    assert one.beats(other) == better


def test_a_score_without_reference_kind_is_one_against_labels() -> None:
    """By a version that knew no others."""
    entry = {"epoch": 1, "loss": 2.0, "bleu": 3.0, "signature": ZH, "published": True}
    old, new = (read_as(Evaluation, values) for values in (entry, {**entry, "against": FILE}))
    assert old.merit.against == Eval(1, 5, 9, 2.0, 3.0, 9, ZH, 0.1).merit.against == LABELS
    assert new.merit == Eval(1, 5, 9, 2.0, 3.0, 9, ZH, 0.1, FILE).merit


SOUND = {"epoch": 1, "loss": 2.0, "bleu": 3.0, "signature": ZH, "published": True, "train_loss": None}


@pytest.mark.parametrize(
    "change",
    [
        {"5": {**SOUND, "loss": "low"}},
        {"5": {**SOUND, "bleu": 10**400}},
        {"5": {**SOUND, "epoch": -1}},
        {"5": []},
        {"five": SOUND},
        {"5": {"epoch": 1}},
    ],
    ids=repr,
)
def test_impossible_evaluations_are_ignored(tmp_path: Path, change: dict[str, Any]) -> None:
    output = OutputDir(tmp_path)
    write_json(output.evaluations, {"4": SOUND})
    assert read_evaluations(output) == {4: Evaluation(1, 2.0, 3.0, ZH, published=True)}

    write_json(output.evaluations, {"4": SOUND, **change})

    assert read_evaluations(output) == {}


def test_what_a_newer_version_adds_to_an_evaluation_is_kept(tmp_path: Path) -> None:
    output = OutputDir(tmp_path)
    newer = {"4": {**SOUND, "against": FILE, "chrf": [31.5, {"order": 6}]}}
    write_json(output.evaluations, newer)

    write_evaluations(output, {**read_evaluations(output), 8: Evaluation(2, float("nan"), 4.0, ZH)})

    assert read_json(output.evaluations)["4"] == newer["4"]
    assert read_evaluations(output).keys() == {4, 8}


def test_the_best_evaluation_is_the_last_that_was_published() -> None:
    one, two, three = (Evaluation(epoch, 2.0, 3.0, published=epoch < 3) for epoch in (1, 2, 3))

    assert best_of({4: one, 8: two, 12: three}) == (8, two)
    assert best_of({12: three}) == best_of({}) == (-1, None)
