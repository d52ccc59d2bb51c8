"""Whose fault the end of an attempt was, from what a supervisor has seen of it."""

import dataclasses
import signal
from pathlib import Path
from typing import Any

import pytest

from engine.contract import events
from engine.contract.config import to_json
from engine.contract.durable import write_json
from engine.contract.machine.driver_log import Xid
from engine.contract.outputdir import OutputDir
from engine.contract.presets import preset
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir
from sft_tui.run_state import RunState
from sft_tui.supervise.ranks import Exit
from sft_tui.supervise.stall import Overdue
from sft_tui.supervise.verdict import Facts, judge
from tests.sft_tui.conftest import step

GB = 10**9
GONE = events.RankFailed("failed", "training", 7, "RuntimeError: Connection closed by peer", "…", waiting=True)
RAISED = events.RankFailed("failed", "evaluating", 7, "LookupError: the shelf is empty", "trace", waiting=False)
SHORT = events.RankFailed("out_of_memory", "training", 7, "MemoryError", "…", waiting=False)


CARD = "NVIDIA GeForce RTX 3060"
LOST = events.Gpu(3, CARD, {"utilization": "N/A: GPU is lost"}, place=1)
WELL = events.Gpu(2, CARD, {"utilization": "93"}, place=0)
FULL = events.RankFailed(
    "out_of_gpu_memory", "training", 7, "CUDA out of memory", "trace", waiting=False, gpu={"gpu": "0", "name": CARD}
)


def reading(available: int) -> events.Host:
    """Of a machine with 16 GB."""
    return events.Host(16 * GB, available, [3 * GB, 4 * GB], 50.0, GB)


@pytest.fixture
def verdict(tmp_path: Path) -> Any:
    """Judges facts about two ranks of a run in a folder of its own."""
    config = {**to_json(preset("sft-small").config), "output_dir": str(tmp_path / "out")}
    record = RunRecord("sft-small-1", "sft-small", "train", config, processes=2, resume_option="go on")
    state = RunState(step=step(7), phase=events.Phase("training"), attempt=1)
    (tmp_path / "trainer.log").write_text("one\nno space for \x1b[31mmy heap\n")

    def of(gpus: tuple[events.Gpu, ...] = (), **facts: Any) -> events.RunEnded:
        return judge(RunDir(tmp_path), record, Facts(state=dataclasses.replace(state, gpus=gpus), **facts))

    return of


BOTH = {0: GONE, 1: GONE}
CASES: dict[str, tuple[dict[str, Any], str, str, str]] = {
    # facts, reason, rank, words
    "killed": ({"exits": [Exit(1, -9, False), Exit(0, 1, False)], "failures": {0: GONE}}, "killed", "1", "SIGKILL"),
    "killed, seen last": ({"exits": [Exit(0, 1, False), Exit(1, -9, False)], "failures": {0: GONE}}, "killed", "1", ""),
    "killed by us": (
        {"exits": [Exit(0, -9, True), Exit(1, 1, False)], "failures": {1: RAISED}},
        "failed",
        "1",
        "the shelf is empty",
    ),
    "terminated by somebody": ({"exits": [Exit(0, -15, False)]}, "killed", "0", "SIGTERM"),
    "crashed": ({"exits": [Exit(0, -11, False)]}, "failed", "0", "SIGSEGV"),
    "a signal without a name": ({"exits": [Exit(0, -63, False)]}, "killed", "0", "signal 63"),
    "raised": (
        {"exits": [Exit(0, 1, False), Exit(1, 1, False)], "failures": {0: GONE, 1: RAISED}},
        "failed",
        "1",
        "shelf",
    ),
    "two killed at once": ({"exits": [Exit(0, -9, False), Exit(1, -9, False)]}, "killed", "0", "SIGKILL"),
    "one killed while another raised": (
        {"exits": [Exit(1, 1, False), Exit(0, -9, False)], "failures": {1: RAISED}},
        "killed",
        "0",
        "SIGKILL",
    ),
    "two raised at once": (
        {"exits": [Exit(0, 1, False), Exit(1, 1, False)], "failures": {1: SHORT, 0: RAISED}},
        "out_of_memory",
        "1",
        "MemoryError",
    ),
    "left early": ({"exits": [Exit(1, 0, False), Exit(0, 1, False)], "failures": {0: GONE}}, "failed", "1", "code 0"),
    "left with a code": ({"exits": [Exit(0, 1, False), Exit(1, 7, False)], "failures": {0: GONE}}, "failed", "1", "7"),
    "all left without a word": ({"exits": [Exit(0, 0, False), Exit(1, 0, False)]}, "failed", "0", "my heap"),
    "the line broke": ({"exits": [Exit(0, 1, False), Exit(1, 1, False)], "failures": BOTH}, "failed", "0", "peer"),
    "memory, by its own word": ({"exits": [Exit(1, 1, False)], "failures": {1: SHORT}}, "out_of_memory", "1", "256"),
    "memory, by the kernel's": ({"exits": [Exit(0, -9, False)], "oom_kills": 1}, "out_of_memory", "0", "256"),
    "memory, by the readings": (
        {"exits": [Exit(0, -9, False)], "readings": [reading(9 * GB), reading(GB // 2)]},
        "out_of_memory",
        "0",
        "500.00 MB of 16.00 GB",
    ),
    "hung": ({"overdue": Overdue(1, "saving", 61.4, silent=False)}, "hung", "1", "no progress for 61 s"),
    "silent": ({"overdue": Overdue(1, "saving", 61.4, silent=True)}, "hung", "1", "no heartbeat"),
    "suspended": ({"overdue": Overdue(1, "saving", 61.4, silent=True), "suspended": True}, "hung", "1", "suspended"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_rank_that_caused_the_end_is_named_with_the_reason(verdict: Any, case: str) -> None:
    facts, reason, rank, words = CASES[case]
    end = verdict(**facts)
    assert (end.reason, end.exit_code) == (reason, 1)
    assert f"Rank {rank} " in end.message.what()
    assert words in end.message.text()
    assert "go on" in end.message.fix()


def test_a_shutdown_while_ranks_start_is_a_stop(verdict: Any) -> None:
    end = verdict(exits=[Exit(0, -signal.SIGTERM, False), Exit(1, -signal.SIGTERM, False)], stop_asked=True)
    assert (end.reason, end.exit_code) == ("stopped", 0)


def test_out_of_memory_halves_the_budget_and_keeps_the_batch(verdict: Any) -> None:
    end = verdict(exits=[Exit(0, -9, False)], oom_kills=2, readings=[reading(GB)])
    assert end.apply == {"micro_batch_tokens": preset("sft-small").config.micro_batch_tokens // 2}
    assert end.evidence["memory_of_ranks"] == "3.00 GB, 4.00 GB"
    assert "--apply-fix" in end.message.fix()


def test_a_full_gpu_is_named_as_the_driver_numbers_it(verdict: Any) -> None:
    """CUDA counts the visible ones: its GPU 0 is the driver's GPU 2 here."""
    end = verdict(gpus=(WELL,), exits=[Exit(0, 1, False)], failures={0: FULL})
    assert (end.reason, end.apply) == ("out_of_gpu_memory", {"micro_batch_tokens": 256})
    assert f"GPU 2 ({CARD})" in end.message.what()


HOW_RANKS_NOTICE: dict[str, dict[str, Any]] = {
    "an error": {"exits": [Exit(1, 1, False)], "failures": {1: RAISED}},
    "NCCL aborts": {"exits": [Exit(0, -6, False), Exit(1, -6, False)]},
    "a rank hangs": {"overdue": Overdue(1, "training", 300.0, silent=False)},
}


@pytest.mark.parametrize("how", HOW_RANKS_NOTICE)
def test_a_lost_gpu_is_the_cause_however_the_ranks_noticed(verdict: Any, how: str) -> None:
    end = verdict(gpus=(WELL, LOST), **HOW_RANKS_NOTICE[how])
    assert (end.reason, end.exit_code, end.apply) == ("gpu_failed", 1, {})
    assert end.message.what() == f"Rank 1: the driver lost GPU 3 ({CARD}) while training, at step 7."
    assert "off and on" in end.message.fix()
    assert "Rank" in end.evidence["otherwise"]


def test_what_the_driver_reported_is_the_evidence_and_may_be_the_cause(verdict: Any) -> None:
    """Xid 79 is of the card; Xid 31, a memory fault, may as well be of the program."""
    aborted = HOW_RANKS_NOTICE["NCCL aborts"]
    end = verdict(gpus=(WELL,), xids=[Xid("PCI:0000:01:00", 79, "GPU has fallen off the bus.")], **aborted)
    assert end.reason == "gpu_failed"
    assert "GPU PCI:0000:01:00 failed while training, at step 7: Xid 79" in end.message.what()
    assert "SIGABRT" in end.evidence["otherwise"]
    program = verdict(gpus=(WELL,), xids=[Xid("PCI:0000:01:00", 31, "MMU Fault")], **aborted)
    assert program.reason == "failed"
    assert program.evidence["driver"] == "Xid 31 (PCI:0000:01:00): MMU Fault"


def test_an_error_of_the_program_stays_one_while_another_gpu_fails(verdict: Any) -> None:
    fallen = [Xid("PCI:0000:02:00", 79, "GPU has fallen off the bus.")]
    end = verdict(gpus=(WELL,), xids=fallen, failures={0: RAISED}, exits=[Exit(0, 1, False)])
    assert end.reason == "failed"
    assert "the shelf is empty" in end.message.what()
    assert "PCI:0000:02:00" in end.evidence["driver"]


def test_a_lost_gpu_that_the_run_does_not_use_is_not_its_end(verdict: Any) -> None:
    facts = HOW_RANKS_NOTICE["an error"]
    other = dataclasses.replace(LOST, place=2)
    nameless = dataclasses.replace(LOST, name="N/A: GPU is lost")
    assert verdict(gpus=(WELL, other), **facts).reason == "failed"
    assert verdict(gpus=(WELL, nameless), **facts).reason == "failed"
    assert verdict(gpus=(WELL, LOST), ended_now=True).reason == "terminated"


def test_a_kill_with_memory_to_spare_changes_nothing(verdict: Any) -> None:
    end = verdict(exits=[Exit(0, -9, False)], readings=[reading(9 * GB)])
    assert (end.reason, end.apply) == ("killed", {})


def test_stacks_are_the_evidence_of_a_hang(verdict: Any) -> None:
    late = Overdue(0, "training", 300.0, silent=False)
    assert verdict(overdue=late, stacks={"stacks_rank0": "File train.py"}).evidence == {"stacks_rank0": "File train.py"}


def test_a_request_comes_before_how_the_ranks_ended(verdict: Any) -> None:
    end = verdict(ended_now=True, exits=[Exit(0, -9, True), Exit(1, -15, False)])
    assert end.reason == "terminated"


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL"])
def test_a_signal_of_native_code_is_a_crash(verdict: Any, name: str) -> None:
    end = verdict(exits=[Exit(1, -signal.Signals[name], False)], oom_kills=1)
    assert (end.reason, end.apply) == ("failed", {})
    assert f"Rank 1 crashed while training ({name})" in end.message.what()
    assert "trainer.log" in end.message.fix()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_any_other_foreign_signal_is_a_kill(verdict: Any, name: str) -> None:
    end = verdict(exits=[Exit(1, -signal.Signals[name], False)], oom_kills=1, readings=[reading(GB // 10)])
    assert (end.reason, end.apply) == ("killed", {})
    assert f"killed by {name} (last seen while training, step 7)" in end.message.what()


def test_a_rank_that_could_not_start_is_reported(verdict: Any) -> None:
    end = verdict(unstartable="Cannot allocate memory", exits=[Exit(0, -9, True)])
    assert "Cannot allocate memory" in end.message.what()


@pytest.mark.parametrize("finished", [True, False])
def test_ranks_that_ended_well_with_a_full_log_are_not_blamed(verdict: Any, tmp_path: Path, finished: bool) -> None:
    output = OutputDir(tmp_path / "out")
    output.path.mkdir()
    write_json(output.owner_file, {"finished": finished})
    end = verdict(exits=[Exit(0, 0, False), Exit(1, 0, False)], stop_asked=not finished)
    assert (end.reason, end.exit_code) == ("finished" if finished else "stopped", 0)


def test_the_smallest_budget_is_not_halved(tmp_path: Path) -> None:
    config = {**to_json(preset("sft-small").config), "output_dir": str(tmp_path), "micro_batch_tokens": 40}
    record = RunRecord("sft-small-1", "sft-small", "train", config, resume_option="go on")
    facts = Facts(exits=[Exit(0, 1, False)], failures={0: dataclasses.replace(SHORT)})
    end = judge(RunDir(tmp_path), record, facts)
    assert (end.reason, end.apply) == ("out_of_memory", {})
    assert "--max_seq_len" in end.message.fix()
