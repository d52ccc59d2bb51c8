"""The losses of rows that a run keeps: the newest steps and the spikes, bounded, continued, whole after any damage."""

import errno
import math
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract import row_losses
from engine.contract.row_losses import (
    KEPT_SPIKES,
    KEPT_STEPS,
    MOST_ROWS,
    RowLoss,
    RowLossFile,
    StepRows,
    continued,
    is_spike,
    line_of,
    read_line,
    read_steps,
    steps_of,
)
from engine.contract.rundir import RunDir


def step(number: int, loss: float = 2.0, **more: object) -> StepRows:
    rows = tuple(RowLoss(row, row + 1, 10, loss * 10 * (row + 1) / 3) for row in range(2))
    return StepRows(number, 1, loss, 20, rows=rows, **more)  # type: ignore[arg-type]


LOSSES = st.floats(0, 1e6, width=32) | st.just(math.nan) | st.just(math.inf)
ROWS = st.lists(st.builds(RowLoss, st.integers(0, 2**40), st.integers(0, 2**40), st.integers(0, 2**20), LOSSES))


@settings(max_examples=25)
@given(ROWS, LOSSES, st.booleans())
def test_a_line_is_read_as_it_was_written(rows: list[RowLoss], loss: float, spike: bool) -> None:
    written = StepRows(3, 1, loss, 5, 2, spike, len(rows), tuple(rows))
    line = line_of(written)
    assert line.isascii()
    assert line.count(b"\n") == 1
    found = read_line(line)
    assert repr(found.loss) == repr(loss)
    assert [(one.row, one.sample, one.tokens) for one in found.rows] == [
        (one.row, one.sample, one.tokens) for one in rows
    ]
    assert [one.loss for one in found.rows] == pytest.approx([one.loss for one in rows], rel=1e-8, nan_ok=True)


@pytest.mark.parametrize("line", [b"", b"3", b"[]", b"{}", b'{"rows":[[1,2]]}', b'{"rows":[[1,2,3,"x"]],"step":1}'])
def test_a_line_that_is_no_step_is_refused(line: bytes) -> None:
    with pytest.raises((TypeError, ValueError)):
        read_line(line)


def test_newest_steps_and_earlier_spikes_stay_in_a_bounded_file(tmp_path: Path) -> None:
    path, most = tmp_path / "rows-rank0.jsonl", 0
    kept = RowLossFile.after(path, 0)
    spikes = {30, 40, 777}
    for number in range(1, 1501):
        kept.add(step(number, 9.0 if number in spikes else 2.0 + number % 3 / 100))
        most = max(most, path.read_bytes().count(b"\n"))
    found = read_steps(path)
    newest = range(1501 - KEPT_STEPS, 1501)
    assert [one.step for one in found if one.step in newest] == list(newest)
    assert {one.step for one in found if one.spike} == spikes
    assert most <= 2 * (KEPT_STEPS + KEPT_SPIKES)
    assert list(tmp_path.iterdir()) == [path]


def test_no_step_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    kept = RowLossFile.after(tmp_path / "rows-rank0.jsonl", 0)
    for number in range(1, 3 * (KEPT_STEPS + KEPT_SPIKES)):
        kept.add(step(number))
    assert (kept.why, synced) == ("", [])


def test_no_more_spikes_are_kept_than_the_newest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(row_losses, "KEPT_STEPS", 5)
    monkeypatch.setattr(row_losses, "KEPT_SPIKES", 3)
    kept = RowLossFile.after(tmp_path / "rows-rank0.jsonl", 0)
    for number in range(1, 41):
        kept.add(step(number, math.nan if number % 4 == 0 else 2.0))
    kept.rewrite()
    assert [one.step for one in read_steps(kept.path)] == [24, 28, 32, 36, 37, 38, 39, 40]


def test_a_large_step_keeps_the_rows_with_the_highest_losses(tmp_path: Path) -> None:
    kept = RowLossFile.after(tmp_path / "rows-rank0.jsonl", 0)
    rows = tuple(RowLoss(row, row, 1, math.nan if row == 5 else float(row)) for row in range(MOST_ROWS + 100))
    kept.add(StepRows(1, 1, 2.0, 700, rows=rows))
    (found,) = read_steps(kept.path)
    assert found.count == MOST_ROWS + 100
    assert len(found.rows) == MOST_ROWS
    assert [one.row for one in found.rows][:2] == [5, MOST_ROWS + 99]


def test_what_is_a_spike() -> None:
    steady = [2.0 + number % 5 / 50 for number in range(50)]
    assert is_spike(4.0, steady)
    assert not is_spike(2.1, steady)
    assert not is_spike(9.0, steady[:5])  # the first steps say nothing
    assert is_spike(math.nan, [])
    assert not is_spike(2.01, [2.0] * 50)  # however steady the others were
    assert is_spike(9.0, [*steady, math.nan, math.inf])


def test_steps_that_are_computed_again_replace_the_old_ones(tmp_path: Path) -> None:
    path = tmp_path / "rows-rank0.jsonl"
    first = RowLossFile.after(path, 0)
    for number in range(1, 11):
        first.add(step(number, 2.0))
    again = RowLossFile.after(path, 6)
    again.add(step(7, 3.0))
    assert [(one.step, one.loss) for one in read_steps(path)] == [*((n, 2.0) for n in range(1, 7)), (7, 3.0)]


def test_a_broken_line_costs_only_its_step(tmp_path: Path) -> None:
    path = tmp_path / "rows-rank0.jsonl"
    path.write_bytes(line_of(step(1)) + b'{"step":2,"rows":[[1\n' + line_of(step(3)))
    assert [one.step for one in read_steps(path)] == [1, 3]
    assert read_steps(tmp_path / "none.jsonl") == []


@settings(max_examples=25)
@given(st.binary(max_size=300), st.integers(0, 200), st.binary(max_size=3))
def test_no_content_of_the_file_brings_a_reader_down(noise: bytes, place: int, other: bytes) -> None:
    line = line_of(step(7))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows-rank0.jsonl"
        path.write_bytes(noise + b"\n" + line[:place] + other + line[place + len(other) :] + b"\n" + line_of(step(9)))
        assert 9 in {one.step for one in steps_of(RunDir(Path(folder)))}


def test_files_of_too_many_bytes_are_not_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    for rank in range(3):
        continued(run, rank, 3, 0).add(step(1))
    monkeypatch.setattr(row_losses, "MOST_IN_ALL", 2 * run.row_losses_of(0).stat().st_size)
    assert [one.parts for one in steps_of(run)] == [2]


def test_a_full_disk_is_reported_and_does_not_stop_anything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kept = RowLossFile.after(tmp_path / "rows-rank0.jsonl", 0)
    kept.add(step(1))
    real, full = os.write, [True]

    def write(fd: int, data: bytes) -> int:
        if full[0]:
            real(fd, data[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data)

    monkeypatch.setattr(os, "write", write)
    kept.add(step(2))
    assert kept.why == "No space left on device"
    full[0] = False
    for number in range(3, 40):
        kept.add(step(number))
    assert kept.why == ""
    assert [one.step for one in read_steps(kept.path)] == list(range(1, 40))


def test_the_parts_of_all_ranks_are_one_step(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    for rank in (0, 1):
        file = continued(run, rank, 2, 0)
        file.add(StepRows(1, 1, 2.0, 20, 2, rows=(RowLoss(rank, rank, 10, 10.0 + rank * 20),)))
    (found,) = steps_of(run)
    assert [one.row for one in found.rows] == [1, 0]
    assert (found.parts, found.ranks, found.count) == (2, 2, 2)
    assert [one.loss for one in found.rows] == [30.0, 10.0]


def test_fewer_ranks_drop_the_later_steps_of_those_that_are_gone(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    for rank in (0, 1):
        file = continued(run, rank, 2, 0)
        for number in (1, 2, 3):
            file.add(step(number))
    continued(run, 0, 1, 2).add(step(3, 5.0))
    assert [(one.step, one.parts) for one in steps_of(run)] == [(1, 2), (2, 2), (3, 1)]


def test_a_run_removes_these_files_too(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    continued(run, 0, 1, 0).add(step(1))
    (tmp_path / "rows-mine.jsonl").write_text("")
    assert [path.name for path in run.files()] == ["rows-rank0.jsonl"]
