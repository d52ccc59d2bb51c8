"""The digests of rows: of what they hold, wherever they lie in the file."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.contract.leave_out import LeaveOut, write_leave_out
from engine.contract.messages import InputError
from engine.data.row_digests import LeftOut, left_out_of, row_digests


def write(path: Path, rows: list[dict[str, object]], group: int = 100) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=group)
    return path


ROWS: list[dict[str, object]] = [{"prompt": f"问{n}", "response": f"答{n}"} for n in range(700)]


def test_a_digest_depends_on_the_row_alone(tmp_path: Path) -> None:
    one, other = write(tmp_path / "a.parquet", ROWS, 300), write(tmp_path / "b.parquet", ROWS, 7)
    rows = [0, 6, 7, 299, 300, 699, 700]
    found = row_digests(one, rows)
    assert found == row_digests(other, rows)
    assert list(found) == rows[:-1]  # a row that the file lacks has none
    assert len(set(found.values())) == len(found)


def test_conversations_and_broken_texts_have_digests_too(tmp_path: Path) -> None:
    chats: list[dict[str, object]] = [{"messages": [{"role": "user", "content": str(n)}]} for n in range(3)]
    assert len(set(row_digests(write(tmp_path / "c.parquet", chats), range(3)).values())) == 3
    broken = pa.array([b"\xff\xfe", b"fine"]).cast(pa.binary())
    text = pa.Array.from_buffers(pa.string(), 2, broken.buffers())
    pq.write_table(pa.table({"prompt": text}), tmp_path / "d.parquet")
    assert len(set(row_digests(tmp_path / "d.parquet", [0, 1]).values())) == 2


def test_a_row_that_has_changed_is_no_longer_left_out(tmp_path: Path) -> None:
    file = write(tmp_path / "train.parquet", ROWS)
    write_leave_out(file, LeaveOut().with_rows(row_digests(file, [3, 5, 699])))
    assert left_out_of(file) == LeftOut((3, 5, 699))
    write(file, [*ROWS[:5], {"prompt": "another", "response": "row"}, *ROWS[6:500]])
    assert left_out_of(file) == LeftOut((3,), (5, 699))


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_text("no")
    with pytest.raises(InputError):
        row_digests(tmp_path / "x.parquet", [0])
