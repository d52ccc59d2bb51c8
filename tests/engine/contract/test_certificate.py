"""How an attempt ended: the reason, the evidence and the one setting that fixes it."""

from dataclasses import replace
from pathlib import Path

import pytest

from engine.contract import certificate
from engine.contract.config import to_json
from engine.contract.events import Envelope, RankFailed, Record, RunEnded, decode, encode
from engine.contract.outputdir import OutputDir
from engine.contract.presets import preset
from engine.contract.record import RunRecord


def record(**settings: object) -> RunRecord:
    config = {**to_json(preset("sft-small").config), **settings}
    return RunRecord("sft-small-1", "sft-small", "train", config, resume_option="sft-tui resume")


@pytest.mark.parametrize(("budget", "fixed"), [(4096, {"micro_batch_tokens": 2048}), (64, {"micro_batch_tokens": 32})])
def test_out_of_memory_halves_the_budget(budget: int, fixed: dict[str, int]) -> None:
    end = certificate.out_of_memory(record(micro_batch_tokens=budget), 1, "training", 7, "no memory", {})
    assert (end.reason, end.exit_code, end.apply) == ("out_of_memory", 1, fixed)


def test_the_smallest_budget_proposes_nothing() -> None:
    end = certificate.out_of_memory(record(micro_batch_tokens=63), 0, "training", 7, "no memory", {})
    assert end.apply == {}
    assert end.message.code == "ended_memory_least"


def test_a_rank_that_ran_out_of_memory_gets_the_same_fix() -> None:
    failure = RankFailed("out_of_memory", "training", 7, "CUDA out of memory", "trace", False)
    end = certificate.failed(record(micro_batch_tokens=4096), 0, failure, "rank0.log")
    assert end.apply == {"micro_batch_tokens": 2048}
    assert end.evidence["traceback"] == "trace"


def test_a_connection_between_machines_is_named_as_far_as_it_is_known() -> None:
    nodes, pair = ["ash", "ash", "oak"], [(1, "ash"), (2, "oak")]
    known = certificate.stood_still(record(), nodes, [pair], "12:00:00", 301.0, 4.2, "training", 7)
    assert (known.reason, known.exit_code) == ("link_lost", 1)
    assert "These do not answer each other: rank 1 on ash and rank 2 on oak." in known.message.what()
    assert "the largest takes 4.2 s" in known.message.what()
    line = encode(Record(Envelope("2026-01-01T00:00:00+00:00", 1.0, 1, "rank0", 1), known))
    again = decode(line)
    assert again is not None
    assert isinstance(again.event, RunEnded)
    assert again.event.message.what("zh") == known.message.what("zh")
    unknown = certificate.stood_still(record(), nodes, [], "12:00:00", 301.0, 0.0, "training", 7)
    assert "between some of the machines is broken (ash, oak)" in unknown.message.what()


def test_an_end_names_the_command_that_resumes() -> None:
    for end in (
        certificate.killed(record(), 1, "SIGKILL", "training", 7, {}),
        certificate.hung(record(), 1, "training", 700.4, "hung", {}),
        certificate.terminated(record(), "training"),
        certificate.unstartable(record(), "no processes"),
    ):
        assert end.exit_code == 1
        assert end.message.args["resume_option"] == "sft-tui resume"


@pytest.mark.parametrize(("restarted", "reason"), [(True, "machine_restarted"), (False, "killed")])
def test_a_lost_run_says_whether_the_machine_restarted(restarted: bool, reason: str) -> None:
    assert certificate.lost(record(), "training", 7, restarted=restarted, evidence={}).reason == reason


def test_a_resume_stopped_early_names_its_checkpoint(tmp_path: Path) -> None:
    output = OutputDir(tmp_path / "out")
    (output.checkpoint(30)).mkdir(parents=True)
    of_output = {"output_dir": str(output.path)}
    first = record(**of_output)
    resumed = RunRecord("r", "sft-small", "train", first.config, resume=True)
    assert certificate.stopped_early(resumed, "loading").args["step"] == 30
    assert certificate.stopped_early(first, "loading").code == "ended_stopped_early"
    assert certificate.stopped_early(first, "generating", begun=True).args["step"] == 30


def test_an_orphan_with_nothing_to_save_was_not_asked_to_stop(tmp_path: Path) -> None:
    output = OutputDir(tmp_path / "out")
    output.checkpoint(30).mkdir(parents=True)
    first = replace(record(output_dir=str(output.path)), fresh_option="sft-tui run sft-small --fresh")
    for of, option in ((first, first.fresh_option), (replace(first, resume=True), first.resume_option)):
        message = certificate.stopped_early(of, "tokenizing", "orphaned")
        assert "supervisor or launcher was killed" in message.what()
        assert "as asked" not in message.what()
        assert f"`{option}`" in message.fix()
        assert "as asked" in certificate.stopped_early(of, "tokenizing").what()
    test = replace(first, job="test")
    assert "supervisor" in certificate.stopped_early(test, "loading", "orphaned").what()
    assert "the same command" in certificate.stopped_early(test, "loading").fix()


@pytest.mark.parametrize("phase", certificate.LOADING)
def test_a_model_that_does_not_fit_is_not_met_with_smaller_micro_batches(phase: str) -> None:
    end = certificate.out_of_memory(record(micro_batch_tokens=4096), 0, phase, 0, "no memory", {})
    assert (end.apply, end.message.code) == ({}, "ended_memory_loading")
    failure = RankFailed("out_of_gpu_memory", phase, 0, "CUDA out of memory", "trace", False, gpu={"gpu": "0"})
    end = certificate.failed(record(micro_batch_tokens=4096), 0, failure, "rank0.log")
    assert (end.reason, end.apply, end.message.code) == ("out_of_gpu_memory", {}, "ended_gpu_memory_loading")
    assert "--lora_rank" in end.message.fix()


def test_a_rank_that_knows_its_gpu_as_lost_is_certified_so() -> None:
    gpu = {"gpu": "2", "name": "card", "lost": "yes", "driver": "Xid 79"}
    failure = RankFailed("gpu_failed", "training", 7, "CUDA error: unknown error", "trace", False, gpu=gpu)
    end = certificate.failed(record(), 1, failure, "rank1.log")
    assert (end.reason, end.message.code, end.message.args["gpu"]) == ("gpu_failed", "ended_gpu_lost", "2 (card)")
    assert end.evidence["driver"] == "Xid 79"
