"""Runs in order, and filtered."""

import dataclasses
import math
from pathlib import Path

import pytest

from engine.contract.events import Eval
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir
from sft_tui.cli import run_commands
from sft_tui.notes import Note
from sft_tui.run_order import ORDERS, having, ordered
from sft_tui.run_state import RunState
from sft_tui.runs import Run
from tests.sft_tui.conftest import EVAL


def run(name: str, best: Eval | None = None, seconds: float = 0.0) -> Run:
    record = RunRecord(name, "sft-small", "train", {"output_dir": "out"})
    return Run(RunDir(Path("logs") / name), record, RunState(best=best, seconds=seconds), alive=False)


def scored(loss: float, bleu: float, by: str = "bleu") -> Eval:
    return dataclasses.replace(EVAL, loss=loss, bleu=bleu, best_by=by)


RUNS = [
    run("d", scored(2.0, 30.0), 5),
    run("b", None, 50),
    run("c", scored(1.0, 10.0), 7),
    run("a", scored(math.nan, math.nan), 1),
]


@pytest.mark.parametrize(
    ("by", "names"), [("started", "dbca"), ("eval", "cdba"), ("best", "dcab"), ("time", "bcda"), ("run", "abcd")]
)
def test_the_best_come_first(by: str, names: str) -> None:
    assert "".join(one.name for one in ordered(RUNS, by)) == names


def test_runs_judged_by_different_measures_are_not_mixed() -> None:
    found = [run("a", scored(1.0, 1.0, "loss")), run("b", scored(3.0, 9.0)), run("c", scored(2.0, 5.0, "loss"))]
    assert [one.name for one in ordered(found, "best")] == ["b", "a", "c"]


def test_a_filter_looks_at_names_states_tags_and_notes() -> None:
    notes = {"a": Note("longer rows", ["keep"])}
    assert [one.name for one in having(RUNS, "KEEP rows", notes)] == ["a"]
    assert having(RUNS, "sft-small", {}) == RUNS
    assert having(RUNS, "nothing", notes) == []


def test_the_command_has_the_same_orders() -> None:
    assert run_commands.ORDERS == ORDERS
