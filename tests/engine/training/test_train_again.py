"""A folder that holds an earlier run: it is never overwritten, and resumed if requested."""

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from engine.contract import events
from engine.contract.events import Step
from engine.contract.stream import EventReader
from tests.engine.conftest import ask_to_stop, everything_in

if TYPE_CHECKING:
    from tests.engine.conftest import Outcome, Runner, TwoRanks


def steps(run: "Outcome") -> list[Step]:
    return run.all(Step)


@pytest.fixture
def cut(run_here: "Runner", tmp_path: Path) -> "Outcome":
    """A run stopped after step 3."""
    run = run_here(folder=tmp_path, listener=ask_to_stop(tmp_path, Step, 2))
    run.run_dir.stop_request.unlink()
    return run


def test_a_new_run_does_not_overwrite_an_unfinished_one(run_here: "Runner", cut: "Outcome", tmp_path: Path) -> None:
    before = everything_in(cut.output.path)
    run = run_here(folder=tmp_path)
    assert (run.code, run.ended.message.code) == (2, "unfinished_run")
    assert run.ended.message.args["step"] == 3
    assert {"--resume", "--fresh"} <= set(re.findall(r"--\w+", run.ended.message.fix()))
    assert everything_in(cut.output.path) == before


def test_a_fresh_run_sets_an_unfinished_one_aside(run_here: "Runner", cut: "Outcome", tmp_path: Path) -> None:
    old = {path.relative_to(cut.output.checkpoints) for path in everything_in(cut.output.checkpoints)}
    run = run_here(folder=tmp_path, fresh=True, epochs=1)
    assert (run.code, [event.step for event in steps(run)][-5:]) == (0, [1, 2, 3, 4, 5])
    (aside,) = (cut.output.path / "earlier").iterdir()
    kept = aside / "checkpoints"
    assert {path.relative_to(kept) for path in everything_in(kept)} == old
    (notice,) = [event.message for event in run.all(events.Notice) if event.message.code == "set_aside"]
    assert notice.args["aside"] == str(aside)
    assert run.output.checkpoint_steps() == [5, 4, 3, 2, 1]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"learn_rate": 2e-3}, ["learn_rate 0.001 -> 0.002"]),
        ({"seed": 5, "freeze": ""}, ["seed 23333 -> 5", "freeze encoder,embeddings -> "]),
        ({"max_grad_norm": 2.0}, ["max_grad_norm 1.0 -> 2.0"]),
        ({"batch_size_per_gpu": 2, "gradient_accumulation_steps": 4}, ["batch_size_per_gpu 1 -> 2"]),
    ],
)
def test_a_resume_with_other_settings_is_refused_and_names_them(
    run_here: "Runner", cut: "Outcome", tmp_path: Path, settings: dict[str, Any], named: list[str]
) -> None:
    before = everything_in(cut.output.path)
    run = run_here(folder=tmp_path, resume=True, **settings)
    assert (run.code, run.ended.message.code) == (2, "resume_differs")
    assert all(difference in str(run.ended.message.args["differences"]) for difference in named)
    assert everything_in(cut.output.path) == before


def test_a_resume_with_other_rows_is_refused(
    run_here: "Runner", cut: "Outcome", tmp_path: Path, tiny_data: Path
) -> None:
    run = run_here(folder=tmp_path, resume=True, train_file=str(tiny_data / "valid.parquet"))
    assert cut.output.checkpoint_steps() == [3, 2, 1]
    assert (run.code, run.ended.message.code) == (2, "resume_differs")
    assert "content of train_file" in run.ended.message.text()


def test_a_resume_with_another_tokenizer_is_refused(
    run_here: "Runner", cut: "Outcome", tmp_path: Path, tiny_tokenizer: Path
) -> None:
    """It would silently train on other ids."""
    other = tmp_path / "tokenizer"
    shutil.copytree(tiny_tokenizer, other)
    text = (other / "tokenizer.json").read_text(encoding="utf-8")
    vocabulary = json.loads(text)
    words = vocabulary["model"]["vocab"]
    words["你"], words["好"] = words["好"], words["你"]
    (other / "tokenizer.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    run = run_here(folder=tmp_path, resume=True, tokenizer=str(other))
    assert cut.output.checkpoint_steps() == [3, 2, 1]
    assert (run.code, run.ended.message.code) == (2, "resume_differs")
    assert "content of tokenizer" in run.ended.message.text()


def test_a_resume_on_fewer_ranks_computes_the_same_steps(
    run_here: "Runner", two_ranks: "TwoRanks", tmp_path: Path
) -> None:
    shutil.copytree(two_ranks.curve.output.path, tmp_path / "output")
    for step in range(4, 11):
        shutil.rmtree(tmp_path / "output" / "checkpoints" / f"step-{step:08}", ignore_errors=True)
    run = run_here(folder=tmp_path, resume=True, gradient_accumulation_steps=4, dropout_rate=0.0)
    (plan,) = run.all(events.Plan)
    assert (run.code, plan.step, plan.effective_batch, plan.steps_total) == (0, 3, 8, 10)
    codes = run.codes(events.Notice)
    assert "resume_other_ranks" in codes
    assert any(code.startswith("resume_proved") for code in codes)
    before, after = two_ranks.curve.all(events.Step)[3:], run.all(events.Step)
    assert [step.sample_ids for step in after] == [step.sample_ids for step in before]
    assert [step.lr for step in after] == [step.lr for step in before]
    assert [step.loss for step in after] == pytest.approx([step.loss for step in before], rel=1e-4)
    manifest = run.output.newest_manifest()
    assert (manifest.world_size, manifest.effective_batch) == (1, 8)


def test_a_resume_on_fewer_ranks_repeats_no_loss_with_dropout(
    run_here: "Runner", two_ranks: "TwoRanks", tmp_path: Path
) -> None:
    shutil.copytree(two_ranks.stopped.output.path, tmp_path / "output")
    run = run_here(folder=tmp_path, resume=True, gradient_accumulation_steps=4)
    assert run.code == 0
    assert {"resume_other_ranks", "resume_other_draws"} <= set(run.codes(events.Notice))


def test_settings_decide_the_batch_if_they_changed_with_the_ranks(
    run_here: "Runner", two_ranks: "TwoRanks", tmp_path: Path
) -> None:
    shutil.copytree(two_ranks.stopped.output.path, tmp_path / "output")
    run = run_here(folder=tmp_path, resume=True, force=True, gradient_accumulation_steps=5)
    (plan,) = run.all(events.Plan)
    assert plan.effective_batch == 5


def test_a_resume_may_change_settings_outside_the_step(
    run_here: "Runner", cut: "Outcome", tmp_path: Path, tiny_data: Path
) -> None:
    moved = shutil.copy(tiny_data / "train.parquet", tmp_path / "moved.parquet")
    saving = {"save_steps": 4, "keep_latest_n_ckp": 2}
    memory = {"eval_batch_rows": 2, "micro_batch_tokens": 64}
    run = run_here(folder=tmp_path, resume=True, train_file=str(moved), **saving, **memory)
    assert run.code == 0
    assert cut.output.checkpoint_steps()[:2] == [10, 8]


def test_a_resume_of_a_finished_run_trains_nothing(run_here: "Runner", finished: "Outcome", tmp_path: Path) -> None:
    shutil.copytree(finished.output.path, tmp_path / "output")
    before = everything_in(tmp_path / "output")
    run = run_here(folder=tmp_path, resume=True, dropout_rate=0.0)
    assert (run.code, run.ended.reason, run.ended.message.code) == (0, "finished", "resume_finished")
    assert steps(run) == []
    assert everything_in(tmp_path / "output") == before


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_finished_run_with_no_more_epochs_trains_nothing(
    run_here: "Runner", finished: "Outcome", tmp_path: Path, epochs: int
) -> None:
    shutil.copytree(finished.output.path, tmp_path / "output")
    run = run_here(folder=tmp_path, resume=True, dropout_rate=0.0, epochs=epochs, accepted=["epochs"])
    assert (run.code, run.ended.message.code, steps(run)) == (0, "resume_finished", [])


def test_a_finished_run_continues_for_more_epochs(run_here: "Runner", finished: "Outcome", tmp_path: Path) -> None:
    shutil.copytree(finished.output.path, tmp_path / "output")
    more = {"dropout_rate": 0.0, "epochs": 3}
    refused = run_here(folder=tmp_path, resume=True, **more)
    assert (refused.code, refused.ended.message.code) == (0, "resume_finished")  # nobody said that this is meant
    run = run_here(folder=tmp_path, resume=True, accepted=["epochs"], **more)
    assert (run.code, run.ended.reason) == (0, "finished")
    assert [(event.epoch, event.step, event.steps_total) for event in steps(run)] == [
        (3, step, 15) for step in range(11, 16)
    ]
    assert [event.epoch for event in run.all(events.Eval)] == [3]
    assert run.ended.message.args["steps_total"] == 15
    assert run.output.owner().finished


def test_a_jump_of_the_learning_rate_is_reported_first(run_here: "Runner", finished: "Outcome", tmp_path: Path) -> None:
    shutil.copytree(finished.output.path, tmp_path / "output")
    run = run_here(folder=tmp_path, resume=True, accepted=["epochs"], dropout_rate=0.0, epochs=4)
    reported = run.all(events.Event)
    (notice,) = [event for event in run.all(events.Notice) if event.message.code == "resume_schedule"]
    last, first = steps(finished)[-1].lr, steps(run)[0].lr
    assert first > 2 * last
    assert (notice.message.args["last"], notice.message.args["rate"]) == (f"{last:.2g}", f"{first:.2g}")
    assert reported.index(notice) < reported.index(steps(run)[0])
    assert "--epochs 4" in notice.message.fix()


def test_a_planned_resume_says_nothing_of_the_learning_rate(run_here: "Runner", cut: "Outcome", tmp_path: Path) -> None:
    run = run_here(folder=tmp_path, resume=True)
    assert (run.code, run.output) == (0, cut.output)
    assert "resume_schedule" not in run.codes(events.Notice)


def test_a_resume_without_a_checkpoint_starts_at_the_beginning(run_here: "Runner") -> None:
    run = run_here(resume=True, epochs=1)
    assert (run.code, [event.step for event in steps(run)]) == (0, [1, 2, 3, 4, 5])
    assert "resume_nothing" in run.codes(events.Notice)


def test_a_resumed_run_is_the_next_attempt(run_here: "Runner", cut: "Outcome", tmp_path: Path) -> None:
    run_here(folder=tmp_path, resume=True)
    attempts = [record.envelope.attempt for record in EventReader(cut.run_dir.events).poll()]
    assert set(attempts) == {1, 2}
    assert attempts == sorted(attempts)
