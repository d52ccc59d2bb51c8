"""Whole runs on a GPU: resumed exactly, killed in a save, out of memory, rehearsed."""

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from engine.contract import events
from engine.contract.events import Step
from engine.contract.rundir import RunDir
from engine.training import trial
from engine.training.step import StepRunner
from sft_tui.supervise.ranks import trainer_environment
from tests.engine.conftest import outcome_of
from tests.engine.gpu.conftest import ON_A_GPU
from tests.engine.process.test_attempt import FULL
from tests.engine.training.test_train_resume import STEPS, assert_same, computed, cut_after
from tests.processes import Result, run

if TYPE_CHECKING:
    from tests.engine.conftest import Outcome, Runner

LEAST: dict[str, Any] = {"eval_rows": 2, "bleu_rows": 2, "max_new_tokens": 2}
# A T5 whose encoder's output is kept, and a chat model with adapters.
CASES: dict[str, dict[str, Any]] = {"t5": {"optimizer": "adafactor"}, "chat": {"lora_rank": 3}}

pytestmark = pytest.mark.filterwarnings("default")  # of operations without a fixed order
SLOW_HERE = pytest.mark.parametrize("device", [pytest.param("cpu", marks=pytest.mark.slow), ON_A_GPU], indirect=True)


@pytest.fixture(autouse=True)
def fixed_order(device: torch.device) -> Any:
    """Sums in one order, as far as torch has them."""
    torch.use_deterministic_algorithms(device.type == "cuda", warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def repeats(again: "Outcome", first: "Outcome", *, exact: bool) -> None:
    """Fails unless the steps of a run are those of another, to the last bit if that can be."""
    assert (first.code, again.code) == (0, 0), again.ended.message.text()
    if exact:
        assert_same(again, first)
    ones, others = computed(again), computed(first)
    assert [one.loss for one in ones.values()] == pytest.approx([others[step].loss for step in ones], rel=1e-3)


@pytest.mark.parametrize(
    ("device", "case"),
    [
        ("cpu", "t5"),
        pytest.param("cpu", "chat", marks=pytest.mark.slow),
        *(pytest.param("cuda", case, marks=pytest.mark.gpu) for case in CASES),
    ],
    indirect=["device"],
)
def test_a_stopped_run_resumes_exactly(
    device: torch.device, run_here: "Runner", tiny_chat: dict[str, Any], tmp_path: Path, case: str
) -> None:
    """With dropout; to the last bit if the same run twice has the same bits, for a GPU may sum in any order."""
    settings = {**LEAST, **(tiny_chat if case == "chat" else {}), **CASES[case]}
    first = run_here(**settings)
    exact = device.type == "cpu" or computed(run_here(**settings)) == computed(first)
    cut_after(7, run_here, tmp_path, **settings)
    repeats(run_here(folder=tmp_path, resume=True, **settings), first, exact=exact)


@SLOW_HERE
def test_a_run_killed_in_a_save_loses_nothing_that_was_saved(
    device: torch.device, run_here: "Runner", make_run: Callable[..., RunDir], tmp_path: Path
) -> None:
    first, run_dir = run_here(**LEAST), make_run(folder=tmp_path, **LEAST)
    died = in_its_own_process("killed.py", str(run_dir.path), "6", folder=tmp_path)
    assert died.code == -signal.SIGKILL, died.err
    assert outcome_of(run_dir, 0).output.checkpoint_steps()[0] == 5
    again = run_here(folder=tmp_path, resume=True, **LEAST)
    assert [event.step for event in again.all(Step)] == [*range(1, 7), *range(6, STEPS + 1)]
    repeats(again, first, exact=device.type == "cpu")


def in_its_own_process(script: str, *arguments: str, folder: Path, **env: str) -> Result:
    """Runs a script of this folder to its end."""
    path = Path(__file__).with_name(script)
    return run(sys.executable, str(path), *arguments, folder=folder, env={"PYTHONPATH": str(path.parents[3]), **env})


def test_a_tensor_that_cannot_fit_is_certified_with_half_the_budget(
    device: torch.device, run_here: "Runner", monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask_too_much(*_: Any) -> float:
        if device.type == "cpu":
            raise torch.OutOfMemoryError(FULL)
        return float(torch.empty(1 << 50, dtype=torch.uint8, device=device).sum())

    monkeypatch.setattr(StepRunner, "_clipped", ask_too_much)
    end = run_here(**LEAST, micro_batch_tokens=128).ended
    assert (end.reason, end.exit_code, end.apply) == ("out_of_gpu_memory", 1, {"micro_batch_tokens": 64})
    assert end.evidence["gpu"] == "0"
    assert all(int(end.evidence[name]) > 0 for name in ("asked", "free", "total"))
    assert ("name" in end.evidence) == (device.type == "cuda")
    assert "64 tokens" in end.message.fix()


def test_a_rehearsal_finds_the_memory_that_a_run_takes(device: torch.device, run_here: "Runner") -> None:
    """Up to the blocks of 2 MiB that torch takes at least, which these small models hardly fill."""
    rehearsed = run_here(work=trial.rehearse, job="rehearse", **LEAST)
    (found,) = rehearsed.all(events.Rehearsed)
    if device.type == "cpu":
        assert found.gpu_memory == [0]
        return
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    finished = run_here(**LEAST, micro_batch_tokens=found.micro_batch_tokens)
    taken = torch.cuda.max_memory_reserved(device)
    assert (rehearsed.code, finished.code) == (0, 0)
    assert 0 < taken <= found.gpu_memory[0] + (32 << 20)


@SLOW_HERE
def test_a_rank_of_a_supervisor_takes_memory_in_segments_that_grow(
    device: torch.device, make_run: Callable[..., RunDir], tmp_path: Path
) -> None:
    """And an index out of range is the program's fault, not the GPU's."""
    given = trainer_environment(make_run(processes=1).read_record(), None)
    found = in_its_own_process("facts.py", device.type, folder=tmp_path, **given)
    assert found.code == 0, found.err
    assert json.loads(found.out) == {"expandable": True if device.type == "cuda" else None, "kind": "failed"}
