from pathlib import Path

import pytest

from engine.contract import events
from engine.contract.messages import Message
from engine.contract.rundir import RunDir
from engine.contract.stream import EventWriter
from sft_tui import runs
from sft_tui.feed import PIECE_BYTES, Feed
from sft_tui.history import Follower
from tests.sft_tui.conftest import EVAL, PLAN, STARTED, step
from tests.sft_tui.screen.conftest import write_run

END = events.RunEnded(
    "finished", 0, Message("ended_tested", {"model": "m", "rows": 3, "path": "x", "loss": "1", "bleu": "2"})
)


def all_of(run_dir: RunDir) -> tuple[Feed, int]:
    feed, pieces = Feed(run_dir, "en"), 0
    while feed.poll():
        pieces += 1
    return feed, pieces


def test_a_long_log_is_read_in_pieces(tmp_path: Path) -> None:
    reported = [STARTED, PLAN, *(step(number) for number in range(1, 9000)), EVAL, END]
    run_dir = write_run(tmp_path / "logs", "one", *reported)
    feed, pieces = all_of(run_dir)
    assert pieces >= run_dir.events.stat().st_size // PIECE_BYTES > 1
    assert feed.behind == 0
    assert feed.curves.of["loss"].last == 8999
    assert feed.run is not None
    assert (feed.run.status, feed.run.alive) == ("finished", False)


def test_a_snapshot_replaces_reading_the_whole_log(tmp_path: Path) -> None:
    reported = [STARTED, PLAN, *(step(number) for number in range(1, 3000)), EVAL, END]
    run_dir = write_run(tmp_path / "logs", "one", *reported)
    follower = Follower(run_dir)
    follower.poll()
    follower.save()
    feed, pieces = all_of(run_dir)
    assert feed.curves.of["loss"].last == 2999
    lines = feed.log.lines()
    assert "Evaluated m on 3 rows" in lines[-1].text
    assert "Configuration sft-small" in lines[0].text
    assert sum(line.level == "step" for line in lines) == 2999
    assert pieces > 1
    assert not feed.reading


def test_a_damaged_snapshot_is_ignored(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "logs", "one", STARTED, PLAN, step(1), END)
    run_dir.snapshot.write_text('{"version": 2, "state": {}, "curves": {"of": 3}, "place": {}}')
    feed, _ = all_of(run_dir)
    assert feed.curves.of["loss"].last == 1


def test_a_missing_log_is_no_error(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "logs", "one", STARTED)
    run_dir.events.unlink()
    feed, _ = all_of(run_dir)
    assert feed.state.started is None


def test_a_state_given_to_the_screen_does_not_change(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "logs", "one", STARTED, PLAN, *(step(number) for number in range(1, 10)))
    feed, _ = all_of(run_dir)
    latest = feed.latest()
    assert latest is not None
    log = EventWriter(run_dir.events, "rank0", 1)
    for number in range(5, 30):  # a resume repeats some
        log.write(step(number))
    log.close()
    while feed.poll():
        pass
    assert latest.curves.of["loss"].last == 9
    assert len(latest.curves.of["loss"].buckets) == 9
    assert feed.curves.of["loss"].last == 29
    assert len(latest.log) < len(feed.log.lines())


def test_an_ended_run_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = write_run(tmp_path / "logs", "one", STARTED, PLAN, step(1), END)
    feed, _ = all_of(run_dir)
    (listed,) = runs.all_runs(tmp_path / "logs")
    monkeypatch.setattr("sft_tui.feed.LOOK_SECONDS", -1.0)

    def read_again(_: RunDir) -> None:
        raise AssertionError("its log was read again")

    monkeypatch.setattr(runs, "read_run", read_again)
    assert not feed.poll()
    assert list(runs.all_runs(tmp_path / "logs", {"one": listed})) == [listed]
