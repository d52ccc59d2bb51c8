from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from engine.contract import events
from engine.contract.manifest import Manifest
from engine.contract.rundir import RunDir
from engine.training import trial
from engine.training.checkpoint import WEIGHTS, CheckpointWriter, Saved
from engine.training.step import StepRunner
from tests.engine.conftest import outcome_of
from tests.engine.models.causal.small import chatty
from tests.engine.training.sharded import launched
from tests.engine.training.sharded_ranks import ROOM

if TYPE_CHECKING:
    from tests.engine.conftest import Outcome, Runner

MEGABYTE = 1_000_000


@pytest.fixture
def rehearsed(run_here: "Runner") -> "Runner":
    def run(**settings: Any) -> "Outcome":
        return run_here(work=trial.rehearse, job="rehearse", **{"micro_batch_tokens": 512, **settings})

    return run


def found(outcome: "Outcome") -> events.Rehearsed:
    assert outcome.code == 0, outcome.ended.message.text()
    (event,) = outcome.all(events.Rehearsed)
    return event


@pytest.fixture
def padded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The padded size of every micro-batch computed for its own sake, in their order; peaks follow the largest."""
    sizes: list[int] = []
    compute = StepRunner.micro_batch_loss

    def remembered(self: StepRunner, samples: list[int], label_tokens: int) -> torch.Tensor:
        lengths = self.store.lengths(samples)
        sizes.append(len(samples) * int(lengths.prompt.max() + lengths.label.max()))
        return compute(self, samples, label_tokens)

    monkeypatch.setattr(StepRunner, "micro_batch_loss", remembered)
    monkeypatch.setattr(trial, "peak_memory", lambda: 100 * MEGABYTE + MEGABYTE * max(sizes))
    return sizes


def test_a_rehearsal_does_everything_once_and_times_it(rehearsed: "Runner", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "TIMED_SECONDS", 600.0)  # as many steps as on a quick machine
    outcome = rehearsed()
    event = found(outcome)
    assert event.micro_batch_tokens == event.micro_batch_tokens_asked == 512
    assert event.steps_timed == 8
    for expected, least, most in (event.seconds_step, event.seconds_evaluation):
        assert 0 < least <= expected <= most
    assert event.seconds_save > 0
    assert event.checkpoint_bytes > 10_000
    assert event.peak_memory[0] > 100 * MEGABYTE
    assert {phase.name for phase in outcome.all(events.Phase)} >= {"rehearsing", "saving"}
    assert outcome.ended.message.code == "ended_rehearsed"


def test_the_longest_micro_batches_of_the_run_are_computed(rehearsed: "Runner", padded: list[int]) -> None:
    rehearsed(epochs=1)
    # 8 rows of at most 32 + 32 tokens make a step; with 512 tokens all of them go together.
    assert max(padded) <= 512
    assert max(padded) > 256


@pytest.mark.parametrize(("limit", "budget"), [(0, 512), (10_000, 512), (400, 256), (300, 128)])
def test_the_budget_is_the_largest_that_fits_the_limit(
    rehearsed: "Runner", padded: list[int], limit: int, budget: int
) -> None:
    event = found(rehearsed(memory_limit=limit * MEGABYTE))
    assert event.micro_batch_tokens == budget
    assert event.peak_memory_found * trial.MARGIN <= (limit * MEGABYTE or float("inf"))
    assert 0 < max(padded) <= 2 * budget, "a budget was tried that could not fit"


def test_a_limit_that_nothing_fits_is_refused_in_words(rehearsed: "Runner") -> None:
    outcome = rehearsed(memory_limit=MEGABYTE)
    assert outcome.code == 2
    assert outcome.ended.message.code == "rehearsal_short"
    assert "0.00 GB" in outcome.ended.message.what()


def test_a_budget_that_does_not_fit_into_memory_is_not_the_one(
    rehearsed: "Runner", padded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = StepRunner.micro_batch_loss

    def short(self: StepRunner, samples: list[int], label_tokens: int) -> torch.Tensor:
        loss = compute(self, samples, label_tokens)
        if padded[-1] > 256:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return loss

    monkeypatch.setattr(StepRunner, "micro_batch_loss", short)
    assert found(rehearsed()).micro_batch_tokens == 256


@pytest.fixture
def card(padded: list[int], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A stand-in for the memory of a GPU: the largest padded micro-batch that it holds."""
    holds = [1 << 20]

    class Card:
        known = True

        def __init__(self, _device: torch.device) -> None: ...

        def begin(self) -> None: ...

        def keep(self) -> int:
            return 5 * MEGABYTE

        def fits(self) -> bool:
            return max(padded) <= holds[0]

    monkeypatch.setattr(trial, "GpuMemory", Card)
    return holds


def test_on_a_gpu_the_budget_grows_beyond_the_one_asked_for(
    rehearsed: "Runner", padded: list[int], card: list[int]
) -> None:
    """8 rows of up to 64 tokens make a step: with 512 tokens all of them go together, and more changes nothing."""
    assert card
    event = found(rehearsed(micro_batch_tokens=128))
    assert (event.micro_batch_tokens_asked, event.micro_batch_tokens) == (128, 512)
    assert event.gpu_memory == [5 * MEGABYTE]
    assert 256 < max(padded) <= 512


def test_the_memory_of_the_gpu_limits_the_budget(rehearsed: "Runner", card: list[int]) -> None:
    card[0] = 300
    assert found(rehearsed(micro_batch_tokens=128)).micro_batch_tokens == 256


def test_rows_that_never_fit_are_reported(rehearsed: "Runner", monkeypatch: pytest.MonkeyPatch) -> None:
    def short(*_: Any) -> torch.Tensor:
        raise MemoryError

    monkeypatch.setattr(StepRunner, "micro_batch_loss", short)
    outcome = rehearsed()
    assert (outcome.code, outcome.ended.message.code) == (2, "rehearsal_out_of_memory")


def test_a_disk_that_loses_a_bit_is_noticed(rehearsed: "Runner", monkeypatch: pytest.MonkeyPatch) -> None:
    save = CheckpointWriter.save

    def flipped(self: CheckpointWriter, about: Manifest) -> Saved:
        saved = save(self, about)
        path = saved.path / WEIGHTS
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        return saved

    monkeypatch.setattr(CheckpointWriter, "save", flipped)
    outcome = rehearsed()
    assert (outcome.code, outcome.ended.message.code) == (2, "rehearsal_checkpoint")
    assert WEIGHTS in outcome.ended.message.what()


def test_a_checkpoint_that_cannot_be_written_is_reported(rehearsed: "Runner", monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> Saved:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(CheckpointWriter, "save", full)
    outcome = rehearsed()
    assert (outcome.code, outcome.ended.message.code) == (2, "rehearsal_unsaved")
    assert outcome.codes(events.Warning) == ["save_failed"]


def test_a_run_of_one_step_can_be_rehearsed(rehearsed: "Runner") -> None:
    event = found(rehearsed(epochs=1, gradient_accumulation_steps=64))
    assert (event.steps_timed, event.seconds_step) == (0, [0.0, 0.0, 0.0])


@pytest.mark.slow
@pytest.mark.parametrize(("where", "lora"), [("forward", 0), ("backward", 0), ("backward", 3)])
def test_ranks_of_a_divided_model_agree_on_a_budget_that_fits_all_of_them(
    make_run: Callable[..., RunDir], tmp_path: Path, where: str, lora: int
) -> None:
    """The others wait for a rank in the middle of a layer when its memory runs out."""
    llama = {**chatty(tmp_path / "llama", "llama"), "lora_rank": lora, "bleu_rows": 2, "eval_rows": 6}
    two = {"processes": 2, "gradient_accumulation_steps": 8, "shard": "full", "job": "rehearse"}
    made = make_run(**two, **llama | {"micro_batch_tokens": 8 * ROOM})
    launched(tmp_path / "two", 2, runs={"rehearsal": (made, 0)}, short=where)
    assert found(outcome_of(made, 0)).micro_batch_tokens == ROOM
