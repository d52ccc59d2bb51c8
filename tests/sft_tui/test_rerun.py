"""What can be done again with a run: by the same plans as the commands."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.contract.durable import write_json
from engine.contract.messages import InputError
from engine.contract.outputdir import OutputDir
from engine.contract.rundir import RunDir
from sft_tui import rerun
from sft_tui.runs import Run, read_run
from sft_tui.starting import open_run_dir, plan_run

VALUES = {"learn_rate": 3e-5, "epochs": 4}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run of 4 epochs that was cut at step 5 of 10."""
    monkeypatch.chdir(tmp_path)
    for name in ("train", "valid", "model", "tokenizer"):
        (tmp_path / name).mkdir() if name == "model" else (tmp_path / name).touch()
    files = {"train_file": "train", "validation_file": "valid", "pretrained_model": "model", "tokenizer": "tokenizer"}
    values = {**files, "output_dir": "out", **VALUES}
    opened = open_run_dir(Path("logs"), plan_run("sft-small", values))
    own(opened.run_dir)
    return read_run(opened.run_dir)


def own(run_dir: RunDir, **more: Any) -> None:
    record, output = run_dir.read_record(), OutputDir(Path("out"))
    output.checkpoint(5).mkdir(parents=True, exist_ok=True)
    output.best.mkdir(exist_ok=True)
    owner = {"run": record.run, "id": record.id, "run_dir": str(run_dir.path.absolute()), "steps_total": 10}
    write_json(output.owner_file, {**owner, "config": record.config, **more})


def test_the_settings_of_a_run_are_those_over_its_preset(run: Run) -> None:
    found = rerun.again(run)
    assert found.preset == "sft-small"
    assert dict(found.values).items() >= {**VALUES, "output_dir": "out", "train_file": "train"}.items()
    assert "seed" not in found.values


def test_settings_that_a_refused_resume_left_in_the_record_do_not_count(run: Run) -> None:
    run.run_dir.write_record(replace(run.record, config={**run.record.config, "learn_rate": 0.5}))
    assert rerun.again(read_run(run.run_dir)).values["learn_rate"] == 3e-5


def test_a_start_from_the_beginning_keeps_settings_and_names_its_origin(run: Run) -> None:
    record = rerun.plan_fresh(run)
    assert (record.fresh, record.resume, record.based_on) == (True, False, "sft-small-1")
    assert record.config == run.record.config
    assert rerun.set_aside_by_fresh(run) == ("sft-small-1", Path("out/earlier/sft-small-1"))


def test_a_start_from_the_beginning_moves_nothing_out_of_an_empty_folder(run: Run) -> None:
    Path("out").rename("elsewhere")
    assert rerun.set_aside_by_fresh(run) is None


@pytest.mark.parametrize("typed", ["1", " +2 ", "10"])
def test_more_epochs_are_added_to_those_of_the_run(run: Run, typed: str) -> None:
    own(run.run_dir, finished=True)
    record = rerun.plan_more_epochs(read_run(run.run_dir), typed)
    assert record.config["epochs"] == 4 + int(typed)
    assert record.accepted == ["epochs"]
    assert record.resume


@pytest.mark.parametrize("typed", ["", "0", "-1", "1.5", "two"])
def test_a_number_that_adds_no_epoch_is_refused(run: Run, typed: str) -> None:
    with pytest.raises(InputError, match="further epochs"):
        rerun.plan_more_epochs(run, typed)


def test_a_resume_takes_changed_settings(run: Run) -> None:
    record = rerun.plan_changed(run, {"save_steps": 7})
    assert record.config["save_steps"] == 7
    assert record.run == run.name


def test_a_finished_run_is_not_resumed_for_a_setting_that_trains_nothing(run: Run) -> None:
    own(run.run_dir, finished=True)
    finished = read_run(run.run_dir)
    with pytest.raises(InputError, match="finished"):
        rerun.plan_changed(finished, {"save_steps": 7})
    assert rerun.plan_changed(finished, {"epochs": 9}).config["epochs"] == 9


def test_settings_that_affect_results_are_not_offered_at_a_resume() -> None:
    assert not {"learn_rate", "seed", "max_seq_len", "output_dir"} & set(rerun.CHANGEABLE)
    assert {"epochs", "save_steps", "micro_batch_tokens"} <= set(rerun.CHANGEABLE)
