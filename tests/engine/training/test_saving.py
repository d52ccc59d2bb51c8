"""What a training saves: nothing that is not a number, and nothing that does not fit."""

import re
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file

from engine.contract import events
from engine.contract.events import Step
from engine.training.checkpoint import SLACK, CheckpointWriter

if TYPE_CHECKING:
    from tests.engine.conftest import Outcome, Runner

STEPS = 10  # of a run


@pytest.mark.parametrize("save_steps", [1, 100], ids=["at a save", "between saves"])
def test_nan_weights_are_never_saved(
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


def test_a_checkpoint_that_does_not_fit_is_skipped(
    monkeypatch: pytest.MonkeyPatch, run_here: "Runner", finished: "Outcome"
) -> None:
    asked = count(1)

    def free(path: Path) -> int:
        """Little when room is asked for the third checkpoint."""
        return 30_000 if path.name == "checkpoints" and next(asked) == 3 else 1 << 40

    monkeypatch.setattr("engine.training.saving.free_bytes", free)
    run = run_here(dropout_rate=0.0)
    assert (run.code, run.ended.reason) == (0, "finished")
    (warning,) = [event.message for event in run.all(events.Warning)]
    assert (warning.code, warning.args["step"]) == ("save_no_space", 3)
    assert warning.args["path"] == str(run.output.checkpoints)
    assert re.fullmatch(r"No checkpoint of step 3: .* has 0\.00 GB free, and it needs \d+\.\d\d GB\..*", warning.what())
    assert run.output.checkpoint_steps() == [step for step in range(STEPS, 0, -1) if step != 3]
    assert [event.loss for event in run.all(Step)] == [event.loss for event in finished.all(Step)]


@pytest.mark.parametrize("optimizer", ["adafactor", "adamw"])
def test_a_checkpoint_is_only_begun_if_all_of_it_fits(
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
