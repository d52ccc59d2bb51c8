"""The commands for rows."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from engine.contract.messages import InputError
from engine.contract.row_losses import RowLoss, StepRows, continued
from engine.contract.weighed import RowBeginning
from sft_tui import weighing
from sft_tui.cli.main import cli
from tests.sft_tui.conftest import PLAN, STARTED
from tests.sft_tui.screen.conftest import write_run


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    run_dir = write_run(tmp_path / "logs", "sft-small-1", STARTED, PLAN)
    kept = continued(run_dir, 0, 1, 0)
    for step in (1, 2):
        rows = tuple(RowLoss(10 + row, row, 5, 5.0 + 40 * (row == 1)) for row in range(4))
        kept.add(StepRows(step, 1, 3.0, 20, rows=rows))
    return tmp_path / "logs"


def rows(logs: Path, *arguments: str, fails: bool = False) -> Any:
    result = CliRunner().invoke(cli, ["rows", "sft-small-1", *arguments, "--logs", str(logs)], catch_exceptions=True)
    assert fails == (result.exit_code != 0), result.output
    return result


def beginnings(_self: object, found: list[RowLoss]) -> dict[int, RowBeginning]:
    return {row.sample: RowBeginning(row.sample, "问", f"答{row.row}") for row in found}


def test_the_rows_of_a_step_are_a_table(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weighing.Weigher, "beginnings", beginnings)
    out = rows(logs, "1").stdout.splitlines()
    assert out[0].startswith("step 1, epoch 1: loss 3.000, 4 rows")
    assert out[2].startswith("!75.0 %  9.000")
    assert out[2].endswith("11  问 → 答11")
    assert len(out) == 6


def test_the_same_as_json_of_all_kept_steps(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weighing.Weigher, "beginnings", beginnings)
    found = json.loads(rows(logs, "1", "--last", "9", "--json").stdout)
    assert [one["step"] for one in found["steps"]] == [1, 2]
    assert len(found["rows"]) == 8
    assert found["rows"][0]["outlier"] is True
    assert found["rows"][0]["text"]["learned"] == "答11"


def test_without_the_files_of_the_run_the_numbers_are_shown(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise InputError("row_changed", path="x.parquet", row=3)

    monkeypatch.setattr(weighing.Weigher, "beginnings", gone)
    shown = rows(logs)
    assert shown.stdout.startswith("step 2, ")
    assert "x.parquet" in shown.stderr


def test_a_step_that_is_not_kept_is_an_error_that_names_those_that_are(logs: Path) -> None:
    failed = rows(logs, "77", fails=True)
    assert isinstance(failed.exception, InputError)
    assert "1-2" in str(failed.exception)


def test_rows_are_listed_added_and_taken_back(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"prompt": list("abc"), "response": list("xyz")}), file)

    def command(*arguments: str) -> Any:
        result = CliRunner().invoke(cli, ["data", "leave-out", str(file), *arguments])
        assert result.exit_code == 0, result.output
        return result

    assert "No row of" in command().stderr
    added = command("2", "0")
    assert added.stdout.splitlines() == ["row 0", "row 2"]
    assert "2 rows of" in added.stderr
    assert json.loads(command("--json").stdout)["rows"] == [{"row": 0, "stale": False}, {"row": 2, "stale": False}]
    assert command("0", "--undo").stdout.splitlines() == ["row 2"]
    assert command("--undo").stdout == ""
