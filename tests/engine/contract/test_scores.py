"""Which evaluation is the better one."""

from pathlib import Path
from typing import Any

import pytest

from engine.contract.durable import write_json
from engine.contract.events import Eval
from engine.contract.outputdir import OutputDir
from engine.contract.scores import FILE, LABELS, Merit, read_evaluations

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
    assert Merit.of(entry).against == Eval(1, 5, 9, 2.0, 3.0, 9, ZH, 0.1).merit.against == LABELS
    assert Merit.of({**entry, "against": FILE}) == Eval(1, 5, 9, 2.0, 3.0, 9, ZH, 0.1, FILE).merit


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
    assert read_evaluations(output) == {"4": SOUND}

    write_json(output.evaluations, {"4": SOUND, **change})

    assert read_evaluations(output) == {}
