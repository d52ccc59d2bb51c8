"""A run is planned from preset and overrides, and refused at once where it would fail."""

from pathlib import Path
from typing import Any

import pytest

from engine.contract.messages import BusyError, InputError
from engine.contract.rundir import FolderLock, OutputDir, write_json
from sft_tui.starting import open_run_dir, plan_run


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Overrides that name files which are there."""
    monkeypatch.chdir(tmp_path)
    for name in ("train", "valid", "model", "tokenizer"):
        (tmp_path / name).touch()
    return {
        "train_file": "train",
        "validation_file": "valid",
        "pretrained_model": "model",
        "tokenizer": "tokenizer",
        "output_dir": "out",
    }


def cut_run(settings: dict[str, Any], finished: bool = False) -> OutputDir:
    """Leaves what a run leaves that was cut at step 5 of 10."""
    run_dir, record = open_run_dir(Path("logs"), plan_run("sft-small", {**settings, "epochs": 7}))
    output = OutputDir(Path("out"))
    output.checkpoint(5).mkdir(parents=True)
    owner = {"run": record.run, "run_dir": str(run_dir.path), "steps_total": 10, "finished": finished}
    write_json(output.owner_file, owner)
    return output


def test_the_command_line_goes_over_the_preset(settings: dict[str, Any]) -> None:
    record = plan_run("sft-small", {**settings, "epochs": 5})
    assert record.config["epochs"] == 5
    assert record.config["warmup_steps"] == 100
    assert record.overrides["epochs"] == [3, 5]


@pytest.mark.parametrize("missing", ["train_file", "validation_file", "pretrained_model", "tokenizer"])
def test_a_missing_file_is_refused_before_anything_is_written(settings: dict[str, Any], missing: str) -> None:
    with pytest.raises(InputError, match=f"absent.*--{missing}"):
        plan_run("sft-small", {**settings, missing: "absent"})
    assert not Path("logs").exists()
    assert not Path("out").exists()


def test_an_unfinished_run_is_not_lost_unawares(settings: dict[str, Any]) -> None:
    cut_run(settings)
    with pytest.raises(InputError, match=r"sft-small-1, cut at step 5 of 10.*--resume.*--fresh"):
        plan_run("sft-small", settings)
    assert plan_run("sft-small", settings, fresh=True).fresh


def test_a_finished_run_may_be_followed_by_another(settings: dict[str, Any]) -> None:
    cut_run(settings, finished=True)
    assert plan_run("sft-small", settings).config["epochs"] == 3


def test_a_resumed_run_keeps_its_settings_and_its_folder(settings: dict[str, Any]) -> None:
    cut_run(settings)
    record = plan_run("sft-small", {"output_dir": "out"}, resume=True)
    assert record.config["epochs"] == 7
    assert record.config["train_file"] == "train"
    run_dir, named = open_run_dir(Path("elsewhere"), record)
    assert (run_dir.path, named.run) == (Path("logs/sft-small-1"), "sft-small-1")


def test_a_resumed_run_needs_no_pretrained_model(settings: dict[str, Any]) -> None:
    cut_run(settings)
    Path("model").unlink()
    assert plan_run("sft-small", {"output_dir": "out"}, resume=True).resume


def test_a_run_in_a_used_folder_is_refused(settings: dict[str, Any]) -> None:
    lock = FolderLock.acquire(OutputDir(Path("out")), "sft-small-9")
    with pytest.raises(BusyError, match="sft-small-9"):
        plan_run("sft-small", settings)
    lock.abandon()


def test_runs_are_numbered(settings: dict[str, Any]) -> None:
    record = plan_run("sft-small", settings)
    assert [open_run_dir(Path("logs"), record)[1].run for _ in range(2)] == ["sft-small-1", "sft-small-2"]
    tested = plan_run("sft-small", {**settings, "test_file": "valid"}, job="test")
    assert open_run_dir(Path("logs"), tested)[1].run == "sft-small-test-1"


def test_a_refused_resume_does_not_change_what_the_next_one_takes(settings: dict[str, Any]) -> None:
    output = cut_run(settings)
    accepted = plan_run("sft-small", {"output_dir": "out"}, resume=True).config
    write_json(output.owner_file, {**output.owner(), "config": accepted})  # as the trainer does
    open_run_dir(Path("logs"), plan_run("sft-small", {"output_dir": "out", "seed": 5}, resume=True))
    assert plan_run("sft-small", {"output_dir": "out"}, resume=True).config == accepted
