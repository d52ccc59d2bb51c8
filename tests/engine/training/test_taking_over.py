"""What is in an output folder when a run takes it over."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file

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
