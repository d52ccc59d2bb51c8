import json
import math
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM

from engine.contract import events
from engine.contract.events import Record, Step
from engine.contract.outputdir import OutputDir
from engine.contract.row_losses import steps_of
from engine.contract.rundir import RunDir
from engine.contract.scores import read_evaluations
from engine.contract.stream import EventReader
from engine.training.loop import Training
from engine.training.step import StepResult, StepRunner
from tests.engine.conftest import ask_to_stop, reported

if TYPE_CHECKING:
    from tests.engine.conftest import Outcome, Runner, TwoRanks
    from tests.processes import Result

STEPS = 10


def steps(run: "Outcome") -> list[Step]:
    return run.all(Step)


# Curves: the effective batch sets them, and nothing else does.


def test_a_run_reports_every_step_and_epoch(finished: "Outcome") -> None:
    assert [(event.epoch, event.step, event.steps_total) for event in steps(finished)] == [
        (1 + step // 5, step + 1, STEPS) for step in range(STEPS)
    ]
    assert [(event.epoch, event.step, event.rows, event.bleu_rows) for event in finished.all(events.Eval)] == [
        (1, 5, 17, 17),
        (2, 10, 17, 17),
    ]
    assert [event.step for event in finished.all(events.Checkpoint)] == list(range(1, STEPS + 1))
    assert all(event.seconds_communication == 0 < event.seconds for event in steps(finished))
    assert len(finished.all(events.Sample)) == 2 * 3
    assert (finished.code, finished.ended.reason) == (0, "finished")


def test_the_measure_that_was_chosen_decides_and_may_change_on_resume(run_here: "Runner", tmp_path: Path) -> None:
    run = run_here(folder=tmp_path, best_by="loss")
    evaluations = run.all(events.Eval)
    assert {event.best_by for event in evaluations} == {"loss"}
    kept = [one.message.what() for one in run.all(events.Notice) if one.message.code == "best_published"]
    assert kept[-1].startswith(f"loss {min(event.loss for event in evaluations):.4f} is the best so far")
    assert run.ended.message.what().startswith(
        f"Finished: 10 steps; best evaluation: loss {evaluations[-1].loss:.4f}, "
    )

    resumed = run_here(folder=tmp_path, resume=True, accepted=["epochs"], epochs=3, best_by="chrf")
    said = [one.message.code for one in resumed.all(events.Notice)]
    assert said.count("best_by_changed") == 1
    assert resumed.all(events.Eval)[-1].best_by == "chrf"
    assert {one.best_by for one in read_evaluations(resumed.output).values()} == {"loss", "chrf"}


def test_the_model_that_a_run_starts_from_can_be_evaluated_first(finished: "Outcome", run_here: "Runner") -> None:
    run = run_here(dropout_rate=0.0, eval_on_start="yes")
    first, second, third = run.all(events.Eval)
    assert [(event.epoch, event.step) for event in (first, second, third)] == [(0, 0), (1, 5), (2, 10)]
    assert first.loss > second.loss > third.loss
    assert [sample.step for sample in run.all(events.Sample)] == [0] * 3 + [5] * 3 + [10] * 3
    assert [step.loss for step in steps(run)] == [step.loss for step in steps(finished)]
    assert list(json.loads(run.output.evaluations.read_text())) == ["5", "10"]  # only trained models are published


def test_every_row_is_seen_once_in_an_epoch(finished: "Outcome") -> None:
    for epoch in (1, 2):
        rows = [row for event in steps(finished) if event.epoch == epoch for row in event.sample_ids]
        assert sorted(rows) == list(range(40))


def test_the_learning_rate_peaks_after_the_warm_up(finished: "Outcome") -> None:
    rates = [event.lr for event in steps(finished)]
    assert rates[0] == 1e-3
    assert rates.index(max(rates)) == 3
    assert max(rates) == pytest.approx(1e-2)
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert min(rates) > 0


def test_the_plan_reports_what_is_trained(finished: "Outcome") -> None:
    (plan,) = finished.all(events.Plan)
    assert (plan.rows, plan.steps_per_epoch, plan.steps_total, plan.step) == (40, 5, STEPS, 0)
    assert (plan.effective_batch, plan.precision) == (8, "fp32")
    assert 0 < plan.parameters_trained < plan.parameters


@pytest.mark.parametrize(("batch", "accumulation"), [(2, 4), (8, 1)])
def test_only_batch_size_times_accumulation_counts(
    run_here: "Runner", finished: "Outcome", batch: int, accumulation: int
) -> None:
    other = run_here(dropout_rate=0.0, batch_size_per_gpu=batch, gradient_accumulation_steps=accumulation)
    for ours, theirs in zip(steps(other), steps(finished), strict=True):
        assert (ours.loss, ours.lr, ours.grad_norm) == (theirs.loss, theirs.lr, theirs.grad_norm)
        assert ours.sample_ids == theirs.sample_ids


@pytest.mark.parametrize("budget", [1, 64, 100_000])
def test_the_budget_of_a_micro_batch_does_not_change_the_curves(
    run_here: "Runner", finished: "Outcome", budget: int
) -> None:
    """Up to the rounding of float32, about 1e-7, which ten steps carry on."""
    other = run_here(dropout_rate=0.0, micro_batch_tokens=budget)
    for ours, theirs in zip(steps(other), steps(finished), strict=True):
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-6)
        assert ours.grad_norm == pytest.approx(theirs.grad_norm, rel=1e-5)
        assert (ours.lr, ours.sample_ids) == (theirs.lr, theirs.sample_ids)


def test_two_ranks_give_the_curves_of_one(two_ranks: "TwoRanks", finished: "Outcome") -> None:
    """With half the accumulation each; also equal up to the rounding of float32."""
    assert [found["curve"] for found in two_ranks.found] == [0, 0]
    for ours, theirs in zip(steps(two_ranks.curve), steps(finished), strict=True):
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-6)
        assert ours.grad_norm == pytest.approx(theirs.grad_norm, rel=1e-5)
        assert (ours.lr, ours.sample_ids) == (theirs.lr, theirs.sample_ids)
        assert (ours.label_tokens, ours.tokens) == (theirs.label_tokens, theirs.tokens)
    for kept, alone in zip(steps_of(two_ranks.curve.run_dir), steps_of(finished.run_dir), strict=True):
        assert (kept.parts, kept.ranks, kept.tokens, kept.count) == (2, 2, alone.tokens, 8)
        rows, others = ({row.sample: row.loss for row in one.rows} for one in (kept, alone))
        assert rows == pytest.approx(others, rel=1e-5)


def test_the_last_step_of_an_epoch_may_be_short(run_here: "Runner") -> None:
    run = run_here(gradient_accumulation_steps=12, epochs=1)
    assert [len(event.sample_ids) for event in steps(run)] == [12, 12, 12, 4]


def test_training_learns(run_here: "Runner") -> None:
    run = run_here(epochs=6, freeze="", learn_rate=1e-2, dropout_rate=0.0, save_steps=100, eval_rows=1)
    losses = [event.loss for event in steps(run)]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


@pytest.mark.parametrize(("freeze", "frozen"), [("encoder,embeddings", ("encoder.", "shared.")), ("", ())])
def test_frozen_weights_do_not_change(run_here: "Runner", tiny_t5: Path, freeze: str, frozen: tuple[str, ...]) -> None:
    run = run_here(epochs=1, freeze=freeze)
    before, after = (load_file(folder / "model.safetensors") for folder in (tiny_t5, run.output.best))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if not (frozen and name.startswith(frozen))}


def test_bart_trains_as_t5_does(run_here: "Runner", tiny_bart: Path) -> None:
    run = run_here(pretrained_model=str(tiny_bart), epochs=1)
    assert (run.code, run.codes(events.Warning)) == (0, [])
    assert AutoModelForSeq2SeqLM.from_pretrained(run.output.best).config.model_type == "bart"


def test_a_state_dict_trains_as_its_folder_does(run_here: "Runner", tiny_t5_bin: Path, finished: "Outcome") -> None:
    run = run_here(pretrained_model=str(tiny_t5_bin), dropout_rate=0.0)
    assert [event.loss for event in steps(run)] == [event.loss for event in steps(finished)]


def test_a_new_model_trains_from_random_weights(run_here: "Runner") -> None:
    run = run_here(pretrained_model="", freeze="", epochs=1)
    assert run.code == 0
    assert "model_new" in run.codes(events.Notice)


def test_rows_left_out_and_cut_are_reported(run_here: "Runner", tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"prompt": ["你好", None, "谢谢" * 40], "response": ["早", "再见", "是"]}), path)
    notices = [event.message for event in run_here(train_file=str(path), epochs=1).all(events.Notice)]
    reported = {notice.code: notice.args for notice in notices if notice.args.get("path") == str(path)}
    assert reported["rows_dropped"]["dropped"] == 1
    assert reported["rows_truncated"]["cut_rows"] == 1


# Ends other than the last step.


@pytest.mark.parametrize(
    "weight", ["decoder.final_layer_norm.weight", "encoder.block.0.layer.0.SelfAttention.q.weight"]
)
def test_a_nan_loss_ends_the_run_before_the_update(
    run_here: "Runner", tiny_t5: Path, tmp_path: Path, weight: str
) -> None:
    poisoned = tmp_path / "poisoned"
    shutil.copytree(tiny_t5, poisoned)
    state = load_file(poisoned / "model.safetensors")
    state[weight].view(-1)[0] = 3e38  # a number, and its products are none
    save_file(state, poisoned / "model.safetensors", metadata={"format": "pt"})
    run = run_here(pretrained_model=str(poisoned))
    assert (run.code, run.ended.reason, run.ended.message.code) == (1, "diverged", "ended_diverged")
    assert run.ended.message.args["step"] == 1
    assert re.fullmatch(r"\d+(, \d+){7}", str(run.ended.message.args["rows"]))
    assert run.ended.evidence["rows_rank0"] == run.ended.message.args["rows"]
    assert run.ended.message.args["rank"] == "0"
    assert run.ended.apply == {"learn_rate": 5e-4}
    assert "--resume --apply-fix" in run.ended.message.fix()
    assert steps(run) == []
    assert run.output.checkpoint_steps() == []
    (kept,) = steps_of(run.run_dir)
    assert (kept.step, kept.spike, len(kept.rows)) == (1, True, 8)
    assert not math.isfinite(kept.loss)


def test_a_divergence_names_the_rows_of_its_micro_batch(
    monkeypatch: pytest.MonkeyPatch, run_here: "Runner", finished: "Outcome"
) -> None:
    """Not all of its step."""
    real, calls = StepRunner._loss, count()

    def poisoned(runner: StepRunner, *arguments: Any) -> Any:
        return real(runner, *arguments) * (float("nan") if next(calls) % 8 == 2 else 1.0)

    monkeypatch.setattr(StepRunner, "_loss", poisoned)
    run = run_here(dropout_rate=0.0, micro_batch_tokens=1)
    assert (run.ended.reason, run.ended.message.args["step"]) == ("diverged", 1)
    (row,) = str(run.ended.message.args["rows"]).split(", ")
    assert int(row) in steps(finished)[0].sample_ids
    assert run.ended.evidence["rows_rank0"] == row


def test_a_run_that_diverges_later_keeps_the_checkpoints_before(
    monkeypatch: pytest.MonkeyPatch, run_here: "Runner", finished: "Outcome"
) -> None:
    run_step, done = StepRunner.run, []

    def diverging(runner: StepRunner, *arguments: Any, **named: Any) -> StepResult:
        done.append(run_step(runner, *arguments, **named))
        return replace(done[-1], grad_norm=float("inf")) if len(done) == 4 else done[-1]

    monkeypatch.setattr(StepRunner, "run", diverging)
    run = run_here(dropout_rate=0.0)
    assert (run.code, run.ended.reason, run.ended.message.args["step"]) == (1, "diverged", 4)
    assert run.ended.message.args["grad_norm"] == "inf"
    assert [event.step for event in steps(run)] == [1, 2, 3]
    assert run.output.checkpoint_steps() == [3, 2, 1]
    rows = ", ".join(map(str, steps(finished)[3].sample_ids))
    assert run.ended.message.args["rows"] == rows


def test_a_stop_saves_and_exits_with_success(run_here: "Runner", tmp_path: Path) -> None:
    run = run_here(folder=tmp_path, listener=ask_to_stop(tmp_path, Step, 3), save_steps=100)
    assert (run.code, run.ended.reason) == (0, "stopped")
    assert [event.step for event in steps(run)] == [1, 2, 3, 4]
    assert run.output.checkpoint_steps() == [4]
    assert run.ended.message.args["checkpoint"] == str(run.output.checkpoint(4))
    assert "--resume" in run.ended.message.fix()


def test_a_pause_saves_and_says_how_to_continue(run_here: "Runner", tmp_path: Path) -> None:
    def listener(record: Record) -> None:
        if isinstance(record.event, Step) and record.event.step == 3:
            RunDir(tmp_path / "log").request_stop("pause")

    run = run_here(folder=tmp_path, listener=listener, save_steps=100)
    assert (run.code, run.ended.reason, run.ended.message.code) == (0, "paused", "ended_paused")
    assert run.output.checkpoint_steps() == [4]
    assert f"`sft-tui continue {run.run_dir.read_record().run}`" in run.ended.message.fix()


def test_an_orphan_drops_its_step_saves_and_exits(
    monkeypatch: pytest.MonkeyPatch, run_here: "Runner", tmp_path: Path
) -> None:
    """The process that would have stopped it is dead; the folder is free at once, without another computation."""
    real, calls = StepRunner._loss, count()

    def dying(runner: StepRunner, *arguments: Any) -> Any:
        if next(calls) == 3 * 8 + 4:
            runner.world.rank_status.orphaned = True
        return real(runner, *arguments)

    monkeypatch.setattr(StepRunner, "_loss", dying)
    run = run_here(folder=tmp_path, dropout_rate=0.0, micro_batch_tokens=1, save_steps=100)
    assert (run.code, run.ended.reason, run.ended.message.code) == (0, "orphaned", "ended_orphaned")
    assert [event.step for event in steps(run)] == [1, 2, 3]
    assert run.output.checkpoint_steps() == [3]
    assert "next_loss" not in json.loads((run.output.checkpoint(3) / "MANIFEST.json").read_text())
    monkeypatch.undo()
    again = run_here(folder=tmp_path, dropout_rate=0.0, micro_batch_tokens=1, resume=True)
    assert (again.code, [event.step for event in steps(again)]) == (0, list(range(1, STEPS + 1)))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_a_run(run_here: "Runner", tmp_path: Path, number: signal.Signals) -> None:
    def listener(record: Record) -> None:
        if isinstance(record.event, Step) and record.event.step == 2:
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)  # a terminal's Ctrl-C arrives twice under a launcher

    run = run_here(folder=tmp_path, listener=listener)
    assert (run.code, run.ended.reason) == (0, "stopped")
    assert run.output.checkpoint_steps() == [3, 2, 1]


@pytest.mark.parametrize(("steps", "code"), [([2, 3], "ended_stopped"), ([], "ended_stopped_unsaved")])
def test_a_rank_that_is_stopped_alone_names_the_newest_checkpoint(tmp_path: Path, steps: list[int], code: str) -> None:
    """Rank 0 alone knows what it saved; this one is on another machine, and only that was signalled."""
    output = OutputDir(tmp_path)
    for step in steps:
        output.checkpoint(step).mkdir(parents=True)
    options = {"resume_option": "x", "fresh_option": "y"}
    asked, record, world = (
        SimpleNamespace(reason=lambda: "stopped"),
        SimpleNamespace(run="z"),
        SimpleNamespace(is_main=False),
    )
    job = SimpleNamespace(output=output, stop_asked=asked, record=record, world=world, options=lambda: options)
    training: Any = SimpleNamespace(job=job, step=4, prepared=SimpleNamespace(steps_total=9))
    message = Training._stopped(training, None).message
    assert (message.code, message.args.get("checkpoint")) == (code, str(output.checkpoint(3)) if steps else None)


def test_a_stop_that_cannot_be_saved_says_so(
    monkeypatch: pytest.MonkeyPatch, run_here: "Runner", tmp_path: Path
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engine.training.checkpoint.CheckpointWriter.save", fail)
    run = run_here(folder=tmp_path, listener=ask_to_stop(tmp_path, Step, 2))
    assert (run.code, run.ended.reason, run.ended.message.code) == (0, "stopped", "ended_stopped_unsaved")
    assert "Free some space" in run.ended.message.fix()


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_stop_before_training_leaves_nothing(run_here: "Runner", tmp_path: Path, number: int) -> None:
    settings = {"token_store": str(tmp_path / "store")}
    run = run_here(folder=tmp_path, listener=ask_to_stop(tmp_path, events.Phase, number), **settings)
    assert (run.code, run.ended.reason, run.ended.message.code) == (0, "stopped", "ended_stopped_again")
    assert not run.output.path.exists()


@pytest.mark.parametrize("phase", ["loading", "verifying", "tokenizing"])
def test_a_stop_while_a_resume_loads_names_its_checkpoint(run_here: "Runner", tmp_path: Path, phase: str) -> None:
    cut = run_here(folder=tmp_path, listener=ask_to_stop(tmp_path, Step, 2))
    cut.run_dir.stop_request.unlink()

    def listener(record: Record) -> None:
        if record.event == events.Phase(phase):
            RunDir(tmp_path / "log").request_stop()

    run = run_here(folder=tmp_path, listener=listener, resume=True)
    assert (run.code, run.ended.reason) == (0, "stopped")
    assert "the checkpoint of step 3 is as it was" in run.ended.message.what()
    assert "--resume" in run.ended.message.fix()


WORSE = "worse_than_start"


def test_a_worse_epoch_is_warned_of_once(run_here: "Runner", tmp_path: Path) -> None:
    wild = {
        "eval_on_start": "yes",
        "learn_rate": 1.0,
        "div_factor": 1000,
        "optimizer": "adamw",
        "max_grad_norm": 1e9,
        "freeze": "",
    }
    run = run_here(folder=tmp_path, bleu_rows=1, **wild)
    warned = [event.message for event in run.all(events.Warning) if event.message.code == "loss_rose"]
    assert warned[0].args["epoch"] == 1
    assert "in its first step" in warned[0].what()
    assert len({message.args["epoch"] for message in warned}) == len(warned)
    assert "--learn_rate" in warned[0].fix()
    assert run.codes(events.Warning).count(WORSE) == 1


def test_an_ordinary_run_has_no_warning(finished: "Outcome") -> None:
    assert "loss_rose" not in finished.codes(events.Warning)


def test_our_own_error_is_reported_with_its_traceback(monkeypatch: pytest.MonkeyPatch, run_here: "Runner") -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("by zero\nand more")

    monkeypatch.setattr("engine.training.step.StepRunner.run", fail)
    run = run_here()
    assert (run.code, run.ended.reason, run.ended.message.code) == (1, "failed", "ended_failed")
    assert "ZeroDivisionError: by zero and more" in run.ended.message.text()
    assert "while training" in run.ended.message.text()
    assert "in fail" in run.ended.evidence["traceback"]


# Processes of their own.


def test_two_ranks_train_as_one_run(uncut_on_two: "tuple[Result, Outcome]") -> None:
    launched, run = uncut_on_two
    assert launched.code == 0, launched.err
    assert run.ended.reason == "finished"
    assert [event.step for event in steps(run)] == list(range(1, STEPS + 1))
    assert [event.world_size for event in run.all(events.RunStarted)] == [2]
    assert {record.envelope.src for record in reported(run.run_dir)} - {"monitor"} == {"rank0"}
    assert {record.envelope.src for record in EventReader(run.run_dir.events).poll()} - {"monitor"} == {
        "rank0",
        "rank1",
    }
    assert run.output.checkpoint_steps() == list(range(STEPS, 0, -1))
    assert [path.name for path in run.output.checkpoints.glob(".*")] == []
    assert set(run.ended.evidence) == {"peak_memory_rank0", "peak_memory_rank1"}
    assert AutoModelForSeq2SeqLM.from_pretrained(run.output.best) is not None
    assert all(0 < event.seconds_communication < event.seconds for event in steps(run))


def test_training_a_t5_loads_no_unneeded_modules(
    make_run: Callable[..., RunDir], start: "Callable[..., Result]", finished: "Outcome"
) -> None:
    """With either optimizer, once an earlier run has tokenized its rows."""
    assert finished.code == 0
    code = """if True:
    import sys
    from pathlib import Path
    from engine.contract.rundir import RunDir
    from engine.process.attempt import execute
    from engine.training.loop import train
    from engine.process.world import World
    world = World()
    ended = [execute(world, RunDir(Path(path)), train) for path in sys.argv[1:]]
    print(ended, sorted({"torch._dynamo", "transformers.modeling_utils", "pyarrow"} & sys.modules.keys()))
    """
    runs = [make_run(epochs=1, optimizer=optimizer) for optimizer in ("adamw", "adafactor")]
    trained = start(sys.executable, "-c", code, *(str(run_dir.path) for run_dir in runs))
    assert trained.out == "[0, 0] []\n", trained.err


def test_a_stop_before_a_resumes_first_step_keeps_its_checkpoint(run_here: "Runner", tmp_path: Path) -> None:
    first = run_here(folder=tmp_path, listener=ask_to_stop(tmp_path, Step, 2))
    saved = first.output.checkpoint_steps()[0]
    RunDir(tmp_path / "log").clear_requests()
    run = run_here(folder=tmp_path, resume=True, listener=ask_to_stop(tmp_path, events.Phase, 1))
    assert (run.code, run.ended.reason, run.ended.message.code) == (0, "stopped", "ended_stopped_resuming")
    assert f"the checkpoint of step {saved} is as it was" in run.ended.message.what()
    assert run.output.checkpoint_steps()[0] == saved
