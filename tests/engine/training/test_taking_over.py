"""What is in an output folder when a run takes it over."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file

from engine.contract import processor
from engine.models import on_device
from engine.training import setup
from tests.engine.conftest import everything_in

if TYPE_CHECKING:
    from tests.engine.conftest import Runner


def test_a_finished_run_is_set_aside_by_the_next(run_here: "Runner", tmp_path: Path) -> None:
    first = run_here(folder=tmp_path, epochs=1)
    before = load_file(first.output.best / "model.safetensors")
    again = run_here(folder=tmp_path, epochs=1, seed=5)
    assert (first.code, again.code) == (0, 0)
    (aside,) = (first.output.path / "earlier").iterdir()
    kept = load_file(aside / "best" / "model.safetensors")
    assert all(torch.equal(kept[name], before[name]) for name in before)
    assert json.loads((aside / "evaluations.json").read_text()).keys() == {"5"}


def test_a_folder_of_checkpoints_that_leads_elsewhere_is_refused(run_here: "Runner", tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "step-00000001").write_text("precious")
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "checkpoints").symlink_to(theirs)
    before = everything_in(theirs)
    run = run_here(folder=tmp_path)
    assert (run.code, run.ended.message.code) == (2, "folder_unwritable")
    assert everything_in(theirs) == before


def test_a_base_that_a_gpu_holds_in_bf16_is_kept_as_loaded(
    run_here: "Runner", tiny_t5: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The processor stands for a GPU, on which frozen weights never are in fp32."""
    for module in (setup, on_device):
        monkeypatch.setattr(module, "packs", lambda _device: False)
    monkeypatch.setattr(processor, "flags", lambda: {"avx512_bf16"})
    run = run_here(mixed_precision="bf16", lora_rank=4, freeze="", optimizer="adamw", epochs=1)
    assert run.code == 0
    (written,) = (run.output.checkpoints / "frozen").iterdir()
    held, base = load_file(written), load_file(tiny_t5 / "model.safetensors")
    assert all(torch.equal(held[name], tensor) for name, tensor in base.items())
    best = load_file(run.output.best / "model.safetensors")
    assert {tensor.dtype for tensor in best.values()} == {torch.float32}
    assert torch.equal(best["shared.weight"], base["shared.weight"])
