"""The list of rows that are left out: read back as written, and refused in a sentence if it is anything else."""

import json
from pathlib import Path

import pytest

from engine.contract import leave_out
from engine.contract.leave_out import LeaveOut, LeftOutRow, leave_out_path, read_leave_out, write_leave_out
from engine.contract.messages import InputError


def test_rows_are_added_and_taken_back_and_an_empty_list_leaves_no_file(tmp_path: Path) -> None:
    file = tmp_path / "train.parquet"
    assert read_leave_out(file) == LeaveOut()
    write_leave_out(file, LeaveOut().with_rows({7: "b", 3: "a"}))
    assert leave_out_path(file) == tmp_path / "train.parquet.leave-out.json"
    assert read_leave_out(file).rows == (LeftOutRow(3, "a"), LeftOutRow(7, "b"))
    write_leave_out(file, read_leave_out(file).without([3]))
    assert read_leave_out(file).digests == {7: "b"}
    write_leave_out(file, read_leave_out(file).without([7]))
    assert list(tmp_path.iterdir()) == []


def test_what_a_newer_version_wrote_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "train.parquet"
    leave_out_path(file).write_text(json.dumps({"rows": [{"row": 1, "digest": "a"}], "why": "noisy"}))
    write_leave_out(file, read_leave_out(file).with_rows({2: "b"}))
    assert json.loads(leave_out_path(file).read_text())["why"] == "noisy"


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"rows": 3}', '{"rows": [{"row": -1, "digest": "a"}]}', '{"rows": [{"row": 1}]}']
)
def test_any_other_content_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "train.parquet"
    leave_out_path(file).write_text(content)
    with pytest.raises(InputError, match="cannot be used"):
        read_leave_out(file)


def test_more_rows_than_can_be_listed_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leave_out, "MOST_LEFT_OUT", 2)
    with pytest.raises(InputError, match="More than 2 rows"):
        LeaveOut().with_rows({1: "a", 2: "b", 3: "c"})


def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="could not be written"):
        write_leave_out(tmp_path / "gone" / "train.parquet", LeaveOut().with_rows({1: "a"}))
