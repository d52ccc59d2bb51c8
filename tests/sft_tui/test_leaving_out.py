"""Rows left out and taken back, by the process that reads the file."""

import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.contract.leave_out import LeaveOut, leave_out_path, read_leave_out
from engine.contract.messages import InputError
from sft_tui import leaving_out
from sft_tui.leaving_out import Listed, leave_out, listed_rows, take_back


def test_rows_are_left_out_compared_and_taken_back(tmp_path: Path) -> None:
    file = tmp_path / "train.parquet"
    pq.write_table(pa.table({"prompt": list("abc"), "response": list("xyz")}), file)
    assert listed_rows(file) == []
    leave_out(file, [2, 0])
    pq.write_table(pa.table({"prompt": list("abc"), "response": list("xyZ")}), file)
    assert listed_rows(file) == [Listed(0, stale=False), Listed(2, stale=True)]
    with pytest.raises(InputError, match="no row 3"):
        leave_out(file, [3])
    assert take_back(file, [2, 7]) == 1
    assert take_back(file) == 1
    assert not leave_out_path(file).exists()


def test_a_change_made_elsewhere_at_the_same_time_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "train.parquet"
    pq.write_table(pa.table({"prompt": list("abc"), "response": list("xyz")}), file)
    leave_out(file, [0])
    elsewhere = threading.Thread(target=take_back, args=(file, [0]))

    def read(data_file: Path) -> LeaveOut:
        found = read_leave_out(data_file)
        if not elsewhere.ident:
            elsewhere.start()
            elsewhere.join(0.5)  # it has to wait, for as long as this change takes
        return found

    monkeypatch.setattr(leaving_out, "read_leave_out", read)
    leave_out(file, [2])
    elsewhere.join(60)
    assert sorted(read_leave_out(file).digests) == [2]
