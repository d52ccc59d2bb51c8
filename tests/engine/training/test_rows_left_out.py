"""Rows that are left out: not trained on, counted, the same after a resume, and never silently."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from engine.contract import events
from engine.contract.leave_out import LeaveOut, read_leave_out, write_leave_out
from engine.contract.manifest import read_manifest
from engine.data.row_digests import row_digests
from tests.engine.conftest import ask_to_stop

if TYPE_CHECKING:
    from tests.engine.conftest import Outcome, Runner


@pytest.fixture
def data(tiny_settings: dict[str, Any], tmp_path: Path) -> Path:
    return Path(shutil.copy(tiny_settings["train_file"], tmp_path / "train.parquet"))


def leave_out(file: Path, *rows: int) -> None:
    write_leave_out(file, LeaveOut().with_rows(row_digests(file, rows)))


def trained(run: "Outcome") -> set[int]:
    return {row for step in run.all(events.Step) for row in step.sample_ids}


def codes(run: "Outcome") -> list[str]:
    said = [one.message.code for one in run.all(events.Notice)] + [one.message.code for one in run.all(events.Warning)]
    return [code for code in said if "left_out" in code]


def test_rows_that_are_left_out_are_not_trained_on(run_here: "Runner", data: Path, tmp_path: Path) -> None:
    leave_out(data, 0, 3, 39)
    run = run_here(folder=tmp_path, train_file=str(data))
    assert trained(run) == set(range(40)) - {0, 3, 39}
    assert [plan.rows for plan in run.all(events.Plan)] == [37]
    (said,) = [one.message.what() for one in run.all(events.Notice) if one.message.code == "rows_left_out"]
    assert said.startswith("Left out of training: 3 rows of ")
    assert "train.parquet.leave-out.json" in said


def test_an_empty_list_and_one_that_is_switched_off_change_nothing(
    run_here: "Runner", finished: "Outcome", data: Path, tmp_path: Path
) -> None:
    leave_out(data, 0, 3)
    run = run_here(folder=tmp_path, train_file=str(data), leave_out="no", dropout_rate=0.0)
    assert codes(run) == []
    assert [step.loss for step in run.all(events.Step)] == [step.loss for step in finished.all(events.Step)]


def test_a_resumed_run_keeps_to_the_rows_that_it_began_with(run_here: "Runner", data: Path, tmp_path: Path) -> None:
    leave_out(data, 0, 3)
    whole = run_here(folder=tmp_path, train_file=str(data))
    folder = tmp_path / "again"
    folder.mkdir()
    first = run_here(folder=folder, train_file=str(data), listener=ask_to_stop(folder, events.Step, 4))
    assert read_manifest(first.output.checkpoint(4)).left_out == (0, 3)
    leave_out(data, 5, 6, 7)
    first.run_dir.clear_requests()
    resumed = run_here(folder=folder, train_file=str(data), resume=True)
    assert resumed.code == 0
    assert [step.loss for step in resumed.all(events.Step)] == [step.loss for step in whole.all(events.Step)]
    assert codes(resumed) == ["rows_left_out", "rows_left_out", "rows_left_out_kept"]


def test_a_run_that_began_without_a_list_is_resumed_without_one(
    run_here: "Runner", finished: "Outcome", data: Path, tmp_path: Path
) -> None:
    how = {"folder": tmp_path, "train_file": str(data), "dropout_rate": 0.0}
    first = run_here(listener=ask_to_stop(tmp_path, events.Step, 4), **how)
    leave_out(data, 0)
    first.run_dir.clear_requests()
    resumed = run_here(resume=True, **how)
    assert [step.loss for step in resumed.all(events.Step)] == [step.loss for step in finished.all(events.Step)]
    assert codes(resumed) == ["rows_left_out_kept"]


def test_a_row_that_has_changed_is_trained_on_and_named(run_here: "Runner", data: Path, tmp_path: Path) -> None:
    leave_out(data, 1, 2)
    table = pq.read_table(data).to_pydict()
    table["response"][2] = "another one"
    pq.write_table(pq.read_table(data).from_pydict(table), data)
    run = run_here(folder=tmp_path, train_file=str(data))
    assert trained(run) == set(range(40)) - {1}
    (said,) = [one.message for one in run.all(events.Warning) if one.message.code == "rows_left_out_stale"]
    assert "row 2 of" in said.what()
    assert "data leave-out" in said.fix()


def test_nothing_is_left_to_train_on(run_here: "Runner", data: Path, tmp_path: Path) -> None:
    leave_out(data, *range(40))
    run = run_here(folder=tmp_path, train_file=str(data))
    assert run.ended.message.code == "rows_all_left_out"
    assert "--undo" in run.ended.message.fix()
    assert "--leave_out no" in run.ended.message.fix()


def test_a_list_that_cannot_be_read_is_refused(run_here: "Runner", data: Path, tmp_path: Path) -> None:
    leave_out(data, 1)
    (tmp_path / "train.parquet.leave-out.json").write_text("{")
    run = run_here(folder=tmp_path, train_file=str(data))
    assert run.ended.message.code == "leave_out_bad"
    with pytest.raises(Exception, match="cannot be used"):
        read_leave_out(data)
