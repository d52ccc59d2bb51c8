import json
import os
import re
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM

from engine.checkpoint import SLACK, CheckpointWriter
from engine.contract import events
from engine.contract.events import Record, Step
from engine.contract.locks import FolderLock, is_locked
from engine.contract.rundir import RunDir
from engine.contract.stream import EventReader
from engine.step import StepResult, StepRunner
from tests.engine.conftest import told

if TYPE_CHECKING:
    from tests.engine.conftest import Outcome, Runner, TwoRanks
    from tests.processes import Result

STEPS = 10


@pytest.fixture(scope="module")
def finished(run_here: "Runner") -> "Outcome":
    """A whole run without dropout."""
    return run_here(dropout_rate=0.0)


def steps(run: "Outcome") -> list[Step]:
    return run.all(Step)


def everything_in(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def ask_to_stop(folder: Path, after: type[events.Event], number: int = 1) -> Callable[[Record], None]:
    """A listener that makes the stop file of the run in `folder` at the given event of a kind."""
    seen = [0]

    def listener(record: Record) -> None:
        seen[0] += isinstance(record.event, after)
        if seen[0] == number:
            RunDir(folder / "log").request_stop()

    return listener


# Curves: the effective batch sets them, and nothing else does.


def test_a_run_tells_every_step_and_every_epoch(finished: "Outcome") -> None:
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


def test_every_row_is_seen_once_in_an_epoch(finished: "Outcome") -> None:
    for epoch in (1, 2):
        rows = [row for event in steps(finished) if event.epoch == epoch for row in event.sample_ids]
        assert sorted(rows) == list(range(40))


def test_the_learning_rate_begins_at_learn_rate_and_peaks_after_the_warm_up(finished: "Outcome") -> None:
    rates = [event.lr for event in steps(finished)]
    assert rates[0] == 1e-3
    assert rates.index(max(rates)) == 3
    assert max(rates) == pytest.approx(1e-2)
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert min(rates) > 0


def test_the_plan_says_what_is_trained(finished: "Outcome") -> None:
    (plan,) = finished.all(events.Plan)
    assert (plan.rows, plan.steps_per_epoch, plan.steps_total, plan.step) == (40, 5, STEPS, 0)
    assert (plan.effective_batch, plan.precision) == (8, "fp32")
    assert 0 < plan.parameters_trained < plan.parameters


@pytest.mark.parametrize(("batch", "accumulation"), [(2, 4), (8, 1)])
def test_only_the_product_of_batch_and_accumulation_counts(
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


def test_two_ranks_have_the_curves_of_one(two_ranks: "TwoRanks", finished: "Outcome") -> None:
    """With half the accumulation each; likewise up to the rounding of float32."""
    assert [found["curve"] for found in two_ranks.found] == [0, 0]
    for ours, theirs in zip(steps(two_ranks.curve), steps(finished), strict=True):
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-6)
        assert ours.grad_norm == pytest.approx(theirs.grad_norm, rel=1e-5)
        assert (ours.lr, ours.sample_ids) == (theirs.lr, theirs.sample_ids)
        assert (ours.label_tokens, ours.tokens) == (theirs.label_tokens, theirs.tokens)


def test_the_last_step_of_an_epoch_may_be_short(run_here: "Runner") -> None:
    run = run_here(gradient_accumulation_steps=12, epochs=1)
    assert [len(event.sample_ids) for event in steps(run)] == [12, 12, 12, 4]


def test_training_learns(run_here: "Runner") -> None:
    run = run_here(epochs=6, freeze="", learn_rate=1e-2, dropout_rate=0.0, save_steps=100, eval_rows=1)
    losses = [event.loss for event in steps(run)]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


@pytest.mark.parametrize(("freeze", "frozen"), [("encoder,embeddings", ("encoder.", "shared.")), ("", ())])
def test_what_is_frozen_stays_as_it_was(
    run_here: "Runner", tiny_t5: Path, freeze: str, frozen: tuple[str, ...]
) -> None:
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


def test_the_rows_left_out_and_cut_are_told(run_here: "Runner", tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"prompt": ["你好", None, "谢谢" * 40], "response": ["早", "再见", "是"]}), path)
    notices = [event.message for event in run_here(train_file=str(path), epochs=1).all(events.Notice)]
    told = {notice.code: notice.args for notice in notices if notice.args.get("path") == str(path)}
    assert told["rows_dropped"]["dropped"] == 1
    assert told["rows_truncated"]["cut_rows"] == 1


# Refusals: a person finds out at once, and nothing is left behind.


def broken(name: str, folder: Path, source: Path) -> str:
    """The path of something that is there and cannot be used."""
    path = folder / name
    if name == "text.parquet":
        path.write_text("hello")
    elif name == "numbers.parquet":
        pq.write_table(pa.table({"prompt": ["a"], "response": [1]}), path)
    elif name == "empty.parquet":
        pq.write_table(pa.table({"prompt": [""], "response": ["a"]}), path)
    elif name == "folder":
        path.mkdir()
    elif name == "garbage.bin":
        path.write_bytes(b"garbage")
    elif name == "poor":
        shutil.copytree(source, path)
        state = load_file(path / "model.safetensors")
        state.popitem()
        save_file(state, path / "model.safetensors", metadata={"format": "pt"})
    return str(path)


REFUSALS = [
    ("train_file", "missing", "file_missing"),
    ("train_file", "text.parquet", "parquet_bad"),
    ("train_file", "numbers.parquet", "column_not_text"),
    ("train_file", "empty.parquet", "rows_all_empty"),
    ("validation_file", "missing", "file_missing"),
    ("validation_file", "empty.parquet", "rows_all_empty"),
    ("tokenizer", "missing", "file_missing"),
    ("tokenizer", "folder", "tokenizer_bad"),
    ("pretrained_model", "missing", "file_missing"),
    ("pretrained_model", "folder", "model_bad"),
    ("pretrained_model", "garbage.bin", "model_pickle"),
    ("pretrained_model", "poor", "model_keys"),
]


def assert_refused(run: "Outcome", code: str) -> None:
    assert (run.code, run.ended.exit_code, run.ended.reason) == (2, 2, "refused")
    assert run.ended.message.code == code
    assert len(run.all(events.RunEnded)) == 1


@pytest.mark.parametrize(("setting", "name", "code"), REFUSALS)
def test_an_input_that_cannot_be_used_is_refused_and_nothing_is_written(
    run_here: "Runner", tmp_path: Path, tiny_t5: Path, setting: str, name: str, code: str
) -> None:
    path = broken(name, tmp_path, tiny_t5)
    before = everything_in(tmp_path)
    where = {"output_dir": str(tmp_path / "a" / "b"), "token_store": str(tmp_path / "store")}
    run = run_here(**{**where, setting: path})
    assert_refused(run, code)
    assert path in run.ended.message.text()
    assert not (tmp_path / "a").exists()
    # Rows that were fit for use stay tokenized: the store is no part of a run.
    assert [path for path in everything_in(tmp_path) if "store" not in str(path)] == before


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"prompt_column": "question"}, "column_missing"),
        ({"freeze": "nowhere"}, "freeze_unknown"),
        ({"freeze": "encoder,decoder,embeddings"}, "nothing_trainable"),
        ({"processes": 2}, "world_promised"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused_and_nothing_is_written(
    run_here: "Runner", tmp_path: Path, settings: dict[str, Any], code: str
) -> None:
    run = run_here(output_dir=str(tmp_path / "a" / "b"), **settings)
    assert_refused(run, code)
    assert not (tmp_path / "a").exists()


def test_too_little_space_is_refused_before_training(
    monkeypatch: pytest.MonkeyPatch, run_here: "Runner", tmp_path: Path
) -> None:
    monkeypatch.setattr("engine.prepare.free_bytes", lambda _: 1000)
    run = run_here(output_dir=str(tmp_path / "a"))
    assert_refused(run, "space_short")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("where", ["/dev/null/output", "/proc/output"])
def test_a_folder_that_cannot_be_written_is_refused(run_here: "Runner", where: str) -> None:
    run = run_here(output_dir=where)
    assert_refused(run, "folder_unwritable")
    assert where in run.ended.message.text()


def test_a_refusal_leaves_a_folder_that_was_there(run_here: "Runner", tmp_path: Path) -> None:
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "mine.txt").write_text("precious")
    assert_refused(run_here(folder=tmp_path, freeze="nowhere"), "freeze_unknown")
    assert (tmp_path / "output" / "mine.txt").read_text() == "precious"


def test_two_ranks_refuse_together(two_ranks: "TwoRanks") -> None:
    assert [found["refused"] for found in two_ranks.found] == [2, 2]
    assert_refused(two_ranks.refused, "file_missing")
    assert not two_ranks.refused.output.path.exists()


def test_what_one_rank_alone_finds_is_refused_by_both(two_ranks: "TwoRanks") -> None:
    """Only one rank writes the token store; the other must not wait for it for ever."""
    assert [found["failed"] for found in two_ranks.found] == [2, 2]
    assert_refused(two_ranks.failed, "folder_unwritable")
    assert not two_ranks.failed.output.path.exists()


def test_a_folder_in_use_is_refused_with_its_holder(run_here: "Runner", tmp_path: Path) -> None:
    lock = FolderLock.acquire(tmp_path / "output", "sft-7", tmp_path / "log-7")
    before = everything_in(tmp_path)
    run = run_here(folder=tmp_path)
    assert (run.code, run.ended.reason, run.ended.message.code) == (3, "busy", "busy")
    assert "sft-7" in run.ended.message.text()
    assert str(os.getpid()) in run.ended.message.text()
    assert [path for path in everything_in(tmp_path) if "log" not in str(path)] == before
    lock.abandon()
    assert run_here(folder=tmp_path, epochs=1).code == 0


def test_a_run_holds_its_folder(run_here: "Runner", tmp_path: Path) -> None:
    held: list[bool] = []

    def listener(record: Record) -> None:
        if not isinstance(record.event, events.Heartbeat):  # they begin before
            held.append(is_locked(tmp_path / "output"))

    run_here(folder=tmp_path, epochs=1, listener=listener)
    assert len(held) > 10
    assert all(held)


# Ends other than the last step.


@pytest.mark.parametrize(
    "weight", ["decoder.final_layer_norm.weight", "encoder.block.0.layer.0.SelfAttention.q.weight"]
)
def test_a_loss_that_is_no_number_ends_the_run_before_the_update(
    run_here: "Runner", tiny_t5: Path, tmp_path: Path, weight: str
) -> None:
    poisoned = tmp_path / "poisoned"
    shutil.copytree(tiny_t5, poisoned)
    state = load_file(poisoned / "model.safetensors")
    state[weight].view(-1)[0] = float("inf")
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


def test_a_divergence_names_the_rows_of_the_micro_batch_that_brought_it_about(
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


@pytest.mark.parametrize("save_steps", [1, 100], ids=["at a save", "between saves"])
def test_weights_that_are_no_numbers_are_never_saved(
    monkeypatch: pytest.MonkeyPatch, run_here: "Runner", tmp_path: Path, save_steps: int
) -> None:
    """An update may break them although loss and gradient were sound."""
    step, done = torch.optim.Optimizer.zero_grad, [0]

    def breaking(optimizer: torch.optim.Optimizer, *arguments: Any, **named: Any) -> None:
        done[0] += 1
        if done[0] == 4:
            optimizer.param_groups[0]["params"][0].data.view(-1)[0] = float("nan")
        step(optimizer, *arguments, **named)

    monkeypatch.setattr(torch.optim.Optimizer, "zero_grad", breaking)
    run = run_here(folder=tmp_path, save_steps=save_steps)
    code = "ended_diverged_weights" if save_steps == 1 else "ended_diverged"
    assert (run.code, run.ended.reason, run.ended.message.code) == (1, "diverged", code)
    assert run.ended.apply == {"learn_rate": 5e-4}
    assert run.output.checkpoint_steps() == ([3, 2, 1] if save_steps == 1 else [])
    monkeypatch.undo()
    slower = run_here(folder=tmp_path, resume=True, accepted=["learn_rate"], **run.ended.apply)
    assert (slower.code, slower.ended.reason) == (0, "finished")
    assert all(bool(weight.isfinite().all()) for weight in load_file(run.output.best / "model.safetensors").values())


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


def test_a_stop_saves_and_ends_well(run_here: "Runner", tmp_path: Path) -> None:
    run = run_here(folder=tmp_path, listener=ask_to_stop(tmp_path, Step, 3), save_steps=100)
    assert (run.code, run.ended.reason) == (0, "stopped")
    assert [event.step for event in steps(run)] == [1, 2, 3, 4]
    assert run.output.checkpoint_steps() == [4]
    assert run.ended.message.args["checkpoint"] == str(run.output.checkpoint(4))
    assert "--resume" in run.ended.message.fix()


def test_a_pause_saves_and_says_how_to_go_on(run_here: "Runner", tmp_path: Path) -> None:
    def listener(record: Record) -> None:
        if isinstance(record.event, Step) and record.event.step == 3:
            RunDir(tmp_path / "log").request_stop("pause")

    run = run_here(folder=tmp_path, listener=listener, save_steps=100)
    assert (run.code, run.ended.reason, run.ended.message.code) == (0, "paused", "ended_paused")
    assert run.output.checkpoint_steps() == [4]
    assert f"`sft-tui continue {run.run_dir.read_record().run}`" in run.ended.message.fix()


def test_an_orphan_drops_the_step_in_hand_saves_and_leaves(
    monkeypatch: pytest.MonkeyPatch, run_here: "Runner", tmp_path: Path
) -> None:
    """Whoever would have stopped it is dead; the folder is free as soon as may be, without another computation."""
    real, calls = StepRunner._loss, count()

    def dying(runner: StepRunner, *arguments: Any) -> Any:
        if next(calls) == 3 * 8 + 4:
            runner.world.life.orphaned = True
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


def test_a_checkpoint_that_does_not_fit_on_the_disk_is_left_out_and_the_next_one_tried(
    monkeypatch: pytest.MonkeyPatch, run_here: "Runner", finished: "Outcome"
) -> None:
    asked = count(1)

    def free(path: Path) -> int:
        """Little when room is asked for the third checkpoint."""
        return 30_000 if path.name == "checkpoints" and next(asked) == 3 else 1 << 40

    monkeypatch.setattr("engine.train.free_bytes", free)
    run = run_here(dropout_rate=0.0)
    assert (run.code, run.ended.reason) == (0, "finished")
    (warning,) = [event.message for event in run.all(events.Warning)]
    assert (warning.code, warning.args["step"]) == ("save_no_space", 3)
    assert warning.args["path"] == str(run.output.checkpoints)
    assert re.fullmatch(r"No checkpoint of step 3: .* has 0\.00 GB free, and it needs \d+\.\d\d GB\..*", warning.what())
    assert run.output.checkpoint_steps() == [step for step in range(STEPS, 0, -1) if step != 3]
    assert [event.loss for event in steps(run)] == [event.loss for event in steps(finished)]


@pytest.mark.parametrize("optimizer", ["adafactor", "adamw"])
def test_a_checkpoint_is_only_begun_where_all_of_it_fits(
    monkeypatch: pytest.MonkeyPatch, run_here: "Runner", tmp_path: Path, optimizer: str
) -> None:
    """What is asked for bounds what is written, and not by far."""
    needs: list[int] = []
    real = CheckpointWriter.bytes_needed

    def asked(writer: CheckpointWriter) -> int:
        needs.append(real(writer))
        return needs[-1]

    monkeypatch.setattr(CheckpointWriter, "bytes_needed", asked)
    run = run_here(folder=tmp_path, optimizer=optimizer, epochs=1)
    sizes = [sum(file.stat().st_size for file in run.output.checkpoint(step).iterdir()) for step in range(1, 6)]
    frozen = sum(file.stat().st_size for file in (run.output.checkpoints / "frozen").iterdir())
    assert needs[0] >= sizes[0] + frozen
    assert all(need >= size for need, size in zip(needs, sizes, strict=True))
    assert all(need <= size + frozen + 2 * SLACK for need, size in zip(needs, sizes, strict=True))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_a_stop(run_here: "Runner", tmp_path: Path, number: signal.Signals) -> None:
    def listener(record: Record) -> None:
        if isinstance(record.event, Step) and record.event.step == 2:
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)  # a terminal's Ctrl-C arrives twice under a launcher

    run = run_here(folder=tmp_path, listener=listener)
    assert (run.code, run.ended.reason) == (0, "stopped")
    assert run.output.checkpoint_steps() == [3, 2, 1]


def test_a_stop_that_cannot_be_saved_says_so(
    monkeypatch: pytest.MonkeyPatch, run_here: "Runner", tmp_path: Path
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engine.checkpoint.CheckpointWriter.save", fail)
    run = run_here(folder=tmp_path, listener=ask_to_stop(tmp_path, Step, 2))
    assert (run.code, run.ended.reason, run.ended.message.code) == (0, "stopped", "ended_stopped_unsaved")
    assert "Free some space" in run.ended.message.fix()


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_stop_before_training_leaves_nothing(run_here: "Runner", tmp_path: Path, number: int) -> None:
    settings = {"token_store": str(tmp_path / "store")}
    run = run_here(folder=tmp_path, listener=ask_to_stop(tmp_path, events.Phase, number), **settings)
    assert (run.code, run.ended.reason, run.ended.message.code) == (0, "stopped", "ended_stopped_early")
    assert not run.output.path.exists()


def test_an_error_of_our_own_is_told_with_its_traceback(monkeypatch: pytest.MonkeyPatch, run_here: "Runner") -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("by zero\nand more")

    monkeypatch.setattr("engine.step.StepRunner.run", fail)
    run = run_here()
    assert (run.code, run.ended.reason, run.ended.message.code) == (1, "failed", "ended_failed")
    assert "ZeroDivisionError: by zero and more" in run.ended.message.text()
    assert "while training" in run.ended.message.text()
    assert "in fail" in run.ended.evidence["traceback"]


# A folder that holds an earlier run.


@pytest.fixture
def cut(run_here: "Runner", tmp_path: Path) -> "Outcome":
    """A run stopped after step 3."""
    run = run_here(folder=tmp_path, listener=ask_to_stop(tmp_path, Step, 2))
    run.run_dir.stop_request.unlink()
    return run


def test_an_unfinished_run_is_not_written_over(run_here: "Runner", cut: "Outcome", tmp_path: Path) -> None:
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


def test_a_finished_run_is_set_aside_by_the_next(run_here: "Runner", tmp_path: Path) -> None:
    first = run_here(folder=tmp_path, epochs=1)
    before = load_file(first.output.best / "model.safetensors")
    again = run_here(folder=tmp_path, epochs=1, seed=5)
    assert (first.code, again.code) == (0, 0)
    (aside,) = (first.output.path / "earlier").iterdir()
    kept = load_file(aside / "best" / "model.safetensors")
    assert all(torch.equal(kept[name], before[name]) for name in before)
    assert json.loads((aside / "evaluations.json").read_text()).keys() == {"5"}


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
    """It would train on other ids without a word."""
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


def test_a_resume_on_another_number_of_ranks_is_refused(
    run_here: "Runner", two_ranks: "TwoRanks", tmp_path: Path
) -> None:
    shutil.copytree(two_ranks.stopped.output.path, tmp_path / "output")
    run = run_here(folder=tmp_path, resume=True, gradient_accumulation_steps=4)
    assert (run.code, run.ended.message.code) == (2, "resume_differs")
    assert "processes 2 -> 1" in run.ended.message.text()


def test_a_resume_may_change_what_has_no_part_in_a_step(
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
def test_a_finished_run_asked_for_no_more_epochs_than_it_has_trains_nothing(
    run_here: "Runner", finished: "Outcome", tmp_path: Path, epochs: int
) -> None:
    shutil.copytree(finished.output.path, tmp_path / "output")
    run = run_here(folder=tmp_path, resume=True, dropout_rate=0.0, epochs=epochs, accepted=["epochs"])
    assert (run.code, run.ended.message.code, steps(run)) == (0, "resume_finished", [])


def test_a_finished_run_goes_on_for_more_epochs(run_here: "Runner", finished: "Outcome", tmp_path: Path) -> None:
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
    assert run.output.owner()["finished"]


def test_a_resume_where_there_is_nothing_starts_at_the_beginning(run_here: "Runner") -> None:
    run = run_here(resume=True, epochs=1)
    assert (run.code, [event.step for event in steps(run)]) == (0, [1, 2, 3, 4, 5])
    assert "resume_nothing" in run.codes(events.Notice)


def test_a_resumed_run_is_the_next_attempt(run_here: "Runner", cut: "Outcome", tmp_path: Path) -> None:
    run_here(folder=tmp_path, resume=True)
    attempts = [record.envelope.attempt for record in EventReader(cut.run_dir.events).poll()]
    assert set(attempts) == {1, 2}
    assert attempts == sorted(attempts)


# Processes of their own.


def test_two_ranks_train_as_one_run(uncut_on_two: "tuple[Result, Outcome]") -> None:
    launched, run = uncut_on_two
    assert launched.code == 0, launched.err
    assert run.ended.reason == "finished"
    assert [event.step for event in steps(run)] == list(range(1, STEPS + 1))
    assert [event.world_size for event in run.all(events.RunStarted)] == [2]
    assert {record.envelope.src for record in told(run.run_dir)} == {"rank0"}
    assert {record.envelope.src for record in EventReader(run.run_dir.events).poll()} == {"rank0", "rank1"}
    assert run.output.checkpoint_steps() == list(range(STEPS, 0, -1))
    assert [path.name for path in run.output.checkpoints.glob(".*")] == []
    assert set(run.ended.evidence) == {"peak_memory_rank0", "peak_memory_rank1"}
    assert AutoModelForSeq2SeqLM.from_pretrained(run.output.best) is not None
    assert all(0 < event.seconds_communication < event.seconds for event in steps(run))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_a_launch_that_would_be_two_runs_is_refused_by_both(
    start: "Callable[..., Result]", make_run: Callable[..., RunDir]
) -> None:
    """accelerate's multi-GPU launcher on a machine without GPUs starts processes that each believe they are alone."""
    if torch.cuda.is_available():
        pytest.skip("NOT TESTED: this machine has a GPU, and two processes are two ranks here")
    run_dir = make_run(processes=2)

    def rank(number: int) -> "Result":
        """As the launcher starts it; by itself the launcher ends the others as soon as one has ended."""
        place = {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "false"}
        return start(sys.executable, "-m", "engine.train", str(run_dir.path), **place, **meeting)

    port = free_port()
    with ThreadPoolExecutor() as pool:
        both = list(pool.map(rank, (0, 1)))
    # Rank 1 is refused as well, or finds that rank 0 has left: either way it trains nothing.
    assert both[0].code == 2, both
    assert both[1].code != 0, both
    (end,) = [record.event for record in told(run_dir)]
    assert isinstance(end, events.RunEnded)
    assert (end.reason, end.message.code) == ("refused", "world_mismatch")
    assert (end.message.args["launched"], end.message.args["found"]) == (2, 1)
    assert "accelerate launch --cpu" in end.message.fix()
    assert not Path(run_dir.read_record().config["output_dir"]).exists()


def test_the_launcher_itself_is_refused_so(
    launch_two: "Callable[..., Result]", make_run: Callable[..., RunDir]
) -> None:
    if torch.cuda.is_available():
        pytest.skip("NOT TESTED: this machine has a GPU, and two processes are two ranks here")
    run_dir = make_run(processes=2)
    launched = launch_two("-m", "engine.train", str(run_dir.path), ACCELERATE_USE_CPU="false")
    assert launched.code != 0
    assert re.search(r"exitcode\s*: 2\b", launched.err), launched.err
    ends = [record.event for record in told(run_dir)]
    assert all(isinstance(end, events.RunEnded) and end.message.code == "world_mismatch" for end in ends)
    assert len(ends) <= 1  # none where the launcher ended rank 0 first
    assert not Path(run_dir.read_record().config["output_dir"]).exists()


def test_a_trainer_of_a_t5_loads_neither_a_compiler_nor_the_models_of_transformers(
    make_run: Callable[..., RunDir], start: "Callable[..., Result]"
) -> None:
    code = """if True:
    import sys
    from pathlib import Path
    from engine.contract.rundir import RunDir
    from engine.job import execute
    from engine.train import train
    from engine.world import World
    ended = execute(World(), RunDir(Path(sys.argv[1])), train)
    print(ended, sorted({"torch._dynamo", "transformers.modeling_utils"} & sys.modules.keys()))
    """
    for optimizer in ("adafactor", "adamw"):
        run_dir = make_run(epochs=1, optimizer=optimizer)
        trained = start(sys.executable, "-c", code, str(run_dir.path))
        assert trained.out == "0 []\n", trained.err
