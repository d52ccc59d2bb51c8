import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.contract import events
from engine.contract.rundir import RunDir
from engine.contract.scores import MEASURES, all_measures
from engine.test import score

if TYPE_CHECKING:
    from tests.engine.conftest import Outcome, Runner


@pytest.fixture(scope="module")
def trained(run_here: "Runner") -> "Outcome":
    return run_here()


@pytest.fixture
def score_of(run_here: "Runner", trained: "Outcome", tmp_path: Path) -> Callable[..., "Outcome"]:
    """Scores the best model of a copy of `trained`."""

    def run(**settings: object) -> "Outcome":
        shutil.copytree(trained.output.path, tmp_path / "output")
        return run_here(folder=tmp_path, work=score, job="test", **settings)

    return run


def test_the_best_model_scores_as_it_did_in_training(score_of: Callable[..., "Outcome"], trained: "Outcome") -> None:
    """The test file here has the rows of the validation file."""
    run = score_of()
    best = max(trained.all(events.Eval), key=lambda event: (event.bleu, -event.loss))
    (scored,) = run.all(events.Eval)
    assert (scored.loss, scored.bleu, scored.rows) == (best.loss, best.bleu, 17)
    assert scored.measures == best.measures
    assert list(all_measures(scored)) == list(MEASURES)
    assert (run.code, run.ended.reason, run.ended.message.code) == (0, "finished", "ended_tested")
    assert run.ended.message.args["rows"] == 17
    assert f"BLEU {scored.bleu:.2f}, loss {scored.loss:.4f}, perplexity " in run.ended.message.what()
    assert len(run.all(events.Sample)) == 3


def test_scoring_changes_nothing(score_of: Callable[..., "Outcome"], trained: "Outcome") -> None:
    run = score_of()
    before = {path.relative_to(trained.output.path) for path in trained.output.path.rglob("*")}
    assert {path.relative_to(run.output.path) for path in run.output.path.rglob("*")} == before


def test_other_rows_get_another_score(score_of: Callable[..., "Outcome"], tiny_data: Path) -> None:
    assert [event.rows for event in score_of(test_file=str(tiny_data / "train.parquet")).all(events.Eval)] == [40]


def test_a_folder_without_a_best_model_is_refused(run_here: "Runner") -> None:
    run = run_here(work=score, job="test")
    assert (run.code, run.ended.reason, run.ended.message.code) == (2, "refused", "best_missing")
    assert not run.output.path.exists()


def test_a_missing_test_file_is_refused(score_of: Callable[..., "Outcome"], tmp_path: Path) -> None:
    run = score_of(test_file=str(tmp_path / "missing.parquet"))
    assert (run.code, run.ended.message.code) == (2, "file_missing")


def test_a_test_can_be_stopped(score_of: Callable[..., "Outcome"], tmp_path: Path) -> None:
    def listener(record: events.Record) -> None:
        if isinstance(record.event, events.Phase) and record.event.name == "generating":
            RunDir(tmp_path / "log").request_stop()

    run = score_of(listener=listener)
    assert (run.code, run.ended.reason) == (0, "stopped")
    assert run.all(events.Eval) == []
