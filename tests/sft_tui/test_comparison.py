"""Runs compared as data."""

import dataclasses
from pathlib import Path
from typing import Any

from engine.contract import events
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir
from sft_tui.comparison import measures, replies, scores, settings
from sft_tui.run_state import RunState
from sft_tui.runs import Run
from tests.sft_tui.conftest import EVAL

UNKNOWN = RunState()


def run(name: str, state: RunState = UNKNOWN, **config: Any) -> Run:
    record = RunRecord(name, "sft-small", "train", {"output_dir": f"out/{name}", **config})
    return Run(RunDir(Path("logs") / name), record, state, alive=False)


def test_settings_that_differ_are_apart_from_the_rest() -> None:
    one = run("a", epochs=3, learn_rate=1e-3, train_file="data/x.parquet", extra=1)
    other = run("b", epochs=3, learn_rate=2e-3, train_file="./data/x.parquet")
    differing, same = settings([one, other])
    assert {row.name: row.values for row in differing} == {"learn_rate": [1e-3, 2e-3], "extra": [1, "-"]}
    assert {row.name for row in same} == {"epochs", "train_file"}


def test_scores_are_those_of_the_best_evaluation() -> None:
    newest = dataclasses.replace(EVAL, loss=12.0, bleu=1.0)
    rows = scores([run("a", RunState(evaluation=newest, best=EVAL, attempt=1, seconds=725)), run("b")], "en")
    assert [row.values for row in rows] == [["BLEU 12.25", "-"], ["9.5000", "-"], ["12 min 05 s", "-"]]
    assert [row.values for row in measures([run("a", RunState(best=EVAL)), run("b")], "en")][1] == ["12.25", "-"]
    assert measures([run("b")], "en") == []


def test_replies_are_matched_by_prompt() -> None:
    def asked(*prompts: str) -> RunState:
        return RunState(samples=tuple(events.Sample(1, 50, n, p, "wanted", f"to {p}") for n, p in enumerate(prompts)))

    found = replies([run("a", asked("x", "y")), run("b", asked("y", "z")), run("c")])
    assert [(one.prompt, one.replies) for one in found] == [
        ("y", ["to y", "to y", None]),
        ("x", ["to x", None, None]),
        ("z", [None, "to z", None]),
    ]
    assert replies([run("c"), run("d")]) == []
