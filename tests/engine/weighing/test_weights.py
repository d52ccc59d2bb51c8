"""The model by which rows are weighed: the best one, the newest checkpoint, or the first; and its losses of tokens."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from engine.contract import config as settings
from engine.contract import events
from engine.contract.config import RunConfig
from engine.contract.messages import InputError
from engine.contract.outputdir import OutputDir
from engine.contract.requests import WantedRow
from engine.contract.row_losses import steps_of
from engine.models import loading
from engine.weighing.trained_rows import TrainedRows
from engine.weighing.weights import Weights, known_by
from tests.engine.conftest import ask_to_stop

if TYPE_CHECKING:
    from engine.data.token_store import TokenStore
    from tests.engine.conftest import Outcome, Runner


def weights(run: "Outcome", **changed: Any) -> Weights:
    config = replace(run.run_dir.read_record().run_config(), **changed)
    return Weights.of(config, loading.load_tokenizer_of(config), run.output)


def test_the_best_model_weighs_as_the_evaluation_did(finished: "Outcome", stores: dict[str, "TokenStore"]) -> None:
    found = weights(finished)
    best = min(finished.all(events.Eval), key=lambda event: -event.bleu)
    assert found.origin == "best"
    assert found.step in {event.step for event in finished.all(events.Eval)}
    rows = stores["validation_file"].rows_at(range(17))
    losses = [found.losses(row) for row in rows]
    assert [len(one) for one in losses] == [len(row.label) for row in rows]
    evaluation = next(event for event in finished.all(events.Eval) if event.step == found.step)
    mean = sum(map(sum, losses)) / sum(map(len, losses))
    assert mean == pytest.approx(evaluation.loss, rel=1e-5)
    assert best.rows == 17


@pytest.mark.parametrize("more", [{}, {"lora_rank": 2}])
def test_without_a_best_model_the_newest_checkpoint_weighs(
    run_here: "Runner", stores: dict[str, "TokenStore"], tmp_path: Path, more: dict[str, Any]
) -> None:
    run = run_here(folder=tmp_path, listener=ask_to_stop(tmp_path, events.Step, 3), **more)
    found = weights(run)
    assert (found.origin, found.step) == ("checkpoint", run.output.checkpoint_steps()[0])
    row = stores["train_file"].row(0)
    assert sum(found.losses(row)) == pytest.approx(found.network.row_losses([row])[0], rel=1e-5)


def test_rows_of_conversations_are_weighed_as_they_were_learned(
    run_here: "Runner", tiny_chat: dict[str, Any], tmp_path: Path
) -> None:
    run = run_here(folder=tmp_path, **{**tiny_chat, "lora_rank": 2, "dropout_rate": 0.0})
    assert run.code == 0
    rows = TrainedRows.of(run.run_dir.read_record().run_config())
    kept = steps_of(run.run_dir)[-1]
    found = weights(run)
    for one in kept.rows:
        wanted = WantedRow(one.sample, one.row, one.tokens)
        row = rows.row(wanted)
        assert len(found.losses(row)) == one.tokens
        assert sum(found.losses(row)) == pytest.approx(one.loss, rel=0.05)  # some steps later
        assert not rows.beginning(wanted).changed


def test_without_any_model_of_the_run_the_one_it_began_with_weighs(
    tiny_settings: dict[str, Any], tmp_path: Path
) -> None:
    config = settings.from_json({**tiny_settings, "output_dir": str(tmp_path)})
    tokenizer = loading.load_tokenizer_of(config)
    assert Weights.of(config, tokenizer, None).origin == "base"
    with pytest.raises(InputError, match="new model"):
        Weights.of(replace(config, pretrained_model=""), tokenizer, OutputDir(tmp_path))


def test_files_that_are_gone_are_replaced_by_those_of_the_best_model(finished: "Outcome", tmp_path: Path) -> None:
    config: RunConfig = finished.run_dir.read_record().run_config()
    assert known_by(config, finished.output) == config
    gone = replace(config, pretrained_model=str(tmp_path / "gone"), tokenizer="")
    best = str(finished.output.best)
    assert known_by(gone, finished.output) == replace(gone, pretrained_model=best)
    assert known_by(gone, None) == gone
    copy = OutputDir(tmp_path / "copy")
    shutil.copytree(finished.output.path, copy.path)
    assert known_by(replace(config, tokenizer=str(tmp_path / "x")), copy).tokenizer == str(copy.best)
