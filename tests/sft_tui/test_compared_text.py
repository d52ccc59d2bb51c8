"""Runs compared, as text."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from engine.contract import events
from engine.contract.events import without_non_finite
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir
from engine.contract.texts import Lang
from sft_tui.compared_text import as_json, lines
from sft_tui.lineage import MODEL, Link
from sft_tui.run_state import RunState
from sft_tui.runs import Run
from tests.sft_tui.conftest import EVAL

SAMPLE = events.Sample(1, 50, 0, "列出5件不可思议的事情。" * 4, "宇宙的无限空间。" * 9, "很好" * 80)
HOSTILE = "\x1b]52;c;aGk=\x07[/x]\u202e"


def run(name: str, **config: Any) -> Run:
    state = RunState(best=EVAL, evaluation=EVAL, samples=(SAMPLE,), attempt=1, seconds=60)
    record = RunRecord(name, "sft-small", "train", {"output_dir": "out", "epochs": 3, **config})
    return Run(RunDir(Path("logs") / name), record, state, alive=False)


RUNS = [run("one", learn_rate=1e-3), run("two", learn_rate=2e-3)]
LINKS = {"two": [Link("one", MODEL, 50)]}


def test_a_comparison_has_scores_differences_origin_and_replies() -> None:
    shown = "\n".join(lines(RUNS, LINKS, "en"))
    for words in ("one", "BLEU 12.25", "! learn_rate", "2 the same", "two: from one (best of step 50)", "▸ 列出5件"):
        assert words in shown
    assert "epochs" not in shown
    assert "epochs" in "\n".join(lines(RUNS, LINKS, "en", whole=True))


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_comparison_fits_the_terminal(columns: int, lang: Lang) -> None:
    wide = [*RUNS, run("a-very-long-name-of-a-run-" * 2, train_file="data/" + "x" * 90)]
    assert max(map(cell_len, lines(wide, LINKS, lang, columns))) <= columns


def test_a_comparison_is_plain_values_for_programs() -> None:
    found = json.loads(json.dumps(without_non_finite(as_json(RUNS, LINKS))))
    assert [one["run"] for one in found["runs"]] == ["one", "two"]
    assert found["settings"] == {"learn_rate": [1e-3, 2e-3]}
    assert found["same"]["epochs"] == 3
    assert found["began_from"] == [[], [{"parent": "one", "kind": "model", "step": 50}]]
    assert found["replies"][0]["replies"] == ["很好" * 80] * 2


def test_no_escape_gets_through_a_comparison() -> None:
    sample = dataclasses.replace(SAMPLE, prompt=HOSTILE, reference=HOSTILE, prediction=HOSTILE)
    bad = run(HOSTILE, **{HOSTILE: HOSTILE})
    bad = dataclasses.replace(bad, state=dataclasses.replace(bad.state, samples=(sample,)))
    shown = "\n".join(lines([bad, RUNS[0]], {}, "en"))
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)
