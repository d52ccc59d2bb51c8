import dataclasses

import pytest
from rich.cells import cell_len

from engine.contract import events
from engine.contract.scores import Measured
from sft_tui import before_after
from sft_tui.run_state import RunState
from tests.sft_tui.conftest import EVAL

MATCH = "exact-match"
BEFORE = dataclasses.replace(EVAL, epoch=0, step=0, loss=2.0, measures={MATCH: Measured(0.0, "s")})
AFTER = dataclasses.replace(EVAL, loss=1.0, measures={MATCH: Measured(23.5, "s"), "chrf": Measured(1.0, "s")})


def state(before: str, after: str, prompt: str = "Who are you?") -> RunState:
    return RunState(
        baseline=BEFORE,
        evaluation=AFTER,
        baseline_samples=(events.Sample(0, 0, 3, prompt, "I am Pip.", before),),
        samples=(events.Sample(1, 50, 3, prompt, "I am Pip.", after), events.Sample(1, 50, 4, "new", "x", "y")),
    )


def test_replies_stand_side_by_side_with_what_was_wanted() -> None:
    shown = before_after.lines(state("I am SmolLM, a helpful assistant.", "I am Pip."), 80, "en")
    assert "▸ Who are you?" in shown
    (both,) = (line for line in shown if "SmolLM" in line)
    assert both.index("I am SmolLM") < both.index("I am Pip.")
    assert "  wanted: I am Pip." in shown
    assert not [line for line in shown if "new" in line]  # of which there was no reply before


def test_scores_of_both_are_given() -> None:
    shown = before_after.lines(state("a", "b"), 80, "en")
    found = {line.rsplit(maxsplit=2)[0].strip(): line.split()[-2:] for line in shown[-4:]}
    assert found["loss"] == ["2.0000", "1.0000"]
    assert found["exact match"] == ["0.00", "23.50"]
    assert "chrF" not in found  # which only one of them has


@pytest.mark.parametrize("width", [44, 80, 120, 300])
def test_long_and_hostile_replies_keep_their_columns(width: int) -> None:
    hostile = "\x1b[31m 你好，世界。" * 200
    shown = before_after.lines(state(hostile, "word " * 900, "问题" * 90), width, "zh")
    assert all(cell_len(line) <= max(width, 46) for line in shown)
    assert not any("\x1b" in line for line in shown)


def test_a_run_that_was_not_evaluated_first_has_no_such_page() -> None:
    assert before_after.lines(RunState(evaluation=AFTER), 80, "en") == []
    assert before_after.lines(RunState(baseline=BEFORE, evaluation=BEFORE), 80, "en") == []
