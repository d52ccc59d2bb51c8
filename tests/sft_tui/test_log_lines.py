"""The log of a run: its beginning stays, whatever number of steps comes after, and memory is bounded."""

import dataclasses
from pathlib import Path

import pytest

from engine.contract import events
from engine.contract.messages import Message
from engine.contract.rundir import RunDir
from engine.contract.stream import EventWriter
from sft_tui import log_lines as logs
from sft_tui.feed import Feed
from sft_tui.history import Follower
from sft_tui.log_lines import Log, LogLine, Past
from tests.sft_tui.conftest import EVAL, PLAN, STARTED, step
from tests.sft_tui.screen.conftest import write_run

WARNED = events.Warning(Message.of("gpu_unreadable", why="no driver"))


def line(number: int, level: str = "step") -> LogLine:
    return LogLine("", level, str(number), number)


def texts(log: Log, level: str) -> list[int]:
    return [int(one.text) for one in log.lines() if one.level == level]


def test_steps_never_displace_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MOST_STEPS", 10)
    log = Log()
    log.add([line(0, "warning"), *map(line, range(1000)), line(1000, "warning")])
    assert texts(log, "warning") == [0, 1000]
    assert texts(log, "step") == [*range(10), *range(990, 1000)]
    gap = log.earlier(1.0).steps
    assert gap.lines == 980
    assert [one.text for one in log.lines() if one.number == gap.before] == ["990"]


def test_earlier_lines_read_later_are_put_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MOST_STEPS", 10)
    log = Log()
    log.begun = False
    log.add(map(line, range(100, 105)))
    log.add_earlier([line(0, "note"), *map(line, range(80, 100))])
    assert [int(one.text) for one in log.lines()] == [0, *range(80, 90), *range(95, 105)]
    assert log.earlier(1.0).steps.lines == 5
    log.begun = True
    log.add(map(line, range(105, 111)))  # there is one gap among the steps that are held
    assert texts(log, "step") == [*range(80, 90), *range(101, 111)]
    assert log.earlier(1.0).steps.lines == 11
    assert texts(log, "note") == [0]


@pytest.mark.parametrize("steps", [3, 10, 11, 19, 20, 21, 500])
@pytest.mark.parametrize("later", [0, 1, 15])  # lines that are read later than the newest
def test_first_and_newest_lines_stay_and_the_rest_is_counted(
    monkeypatch: pytest.MonkeyPatch, steps: int, later: int
) -> None:
    monkeypatch.setattr(logs, "MOST_STEPS", 10)
    log = Log()
    if later:
        log.begun = False
        log.add(map(line, range(later, min(steps, later + 5))))
        log.add_earlier(map(line, range(min(steps, later))))
        log.begun = True
        log.add(map(line, range(later + 5, steps)))
    else:
        log.add(map(line, range(steps)))
    held, gap = texts(log, "step"), log.earlier(1.0).steps
    assert held[: min(steps, 10)] == list(range(min(steps, 10)))
    assert held[-min(steps, 10) :] == list(range(max(0, steps - 10), steps))
    assert len(held) + gap.lines == steps
    assert [one.number for one in log.lines()] == sorted({one.number for one in log.lines()})


def test_notes_are_bounded_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MOST_NOTES", 10)
    log = Log()
    log.add(line(number, "note") for number in range(30))
    assert texts(log, "note") == [*range(10), *range(20, 30)]
    assert log.earlier(1.0).notes.lines == 10


def long_run(folder: Path, steps: int) -> RunDir:
    reported = [STARTED, PLAN, *(step(number) for number in range(1, steps)), WARNED, step(steps)]
    return write_run(folder / "logs", "one", *reported)


def test_a_run_with_a_snapshot_has_its_first_lines(tmp_path: Path) -> None:
    run_dir = long_run(tmp_path, 3000)
    follower = Follower(run_dir)
    follower.poll()
    follower.save()
    feed = Feed(run_dir, "en")
    while feed.poll() or feed.reading:
        pass
    shot = feed.latest()
    assert shot is not None
    assert "Configuration sft-small" in shot.log[0].text
    assert sum(one.level == "warning" for one in shot.log) == 1
    assert [one.number for one in shot.log] == sorted({one.number for one in shot.log})
    assert (shot.earlier.notes.lines, shot.earlier.steps.lines, shot.earlier.read) == (0, 0, 1.0)


def test_steps_far_back_are_counted_and_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = long_run(tmp_path, 2000)
    size = run_dir.events.stat().st_size
    monkeypatch.setattr(logs, "STEP_BYTES", size // 4)
    monkeypatch.setattr(logs, "PAST_BYTES", size // 50)
    monkeypatch.setattr(logs, "MOST_STEPS", 100)
    past, records = Past(run_dir, size), []
    while past.share < 1:
        records += past.read()
    steps = [one.event.step for one, _ in records if isinstance(one.event, events.Step)]
    assert steps == [*range(1, 101), *range(past.steps_passed + 101, 2001)]
    assert 1300 < past.steps_passed < 1500
    assert isinstance(records[0][0].event, events.RunStarted)
    assert any(isinstance(one.event, events.Warning) for one, _ in records)
    assert [begin for _, begin in records] == sorted({begin for _, begin in records})


def test_a_sample_that_looks_like_a_step_is_not_a_step(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    writer = EventWriter(run_dir.events, "rank0", 1)
    reported = events.Sample(1, 50, 0, 'kind":"step"', '"kind":"step"', "x")
    writer.write(dataclasses.replace(reported, prediction='"kind":"host"'))
    writer.close()
    ((record, _),) = Past(run_dir, run_dir.events.stat().st_size).read()
    assert isinstance(record.event, events.Sample)


def test_samples_displace_neither_notes_nor_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MOST_NOTES", "MOST_SAMPLES"):
        monkeypatch.setattr(logs, name, 10)
    log = Log()
    log.add([line(0, "note"), line(1, "warning")])
    log.add(line(number, "data")._replace(sample=1 + number % 3) for number in range(2, 500))
    log.add(line(number, "note") for number in range(500, 600))
    held = log.lines()
    assert [one.level for one in held[:2]] == ["note", "warning"]
    assert sum(one.sample > 0 for one in held) == 20
    earlier = log.earlier(1.0)
    assert (earlier.samples.lines, earlier.notes.lines, earlier.warnings.lines) == (478, 81, 0)
    assert not earlier.is_whole


def test_lines_of_a_sample_know_its_evaluations_score(tmp_path: Path) -> None:
    asked = events.Sample(1, 50, 0, "a prompt", "a reference", "a reply")
    feed = Feed(write_run(tmp_path / "logs", "one", STARTED, PLAN, EVAL, asked, WARNED), "en")
    while feed.poll() or feed.reading:
        pass
    samples = [one for one in feed.log.lines() if one.sample]
    assert [(one.sample, one.score) for one in samples] == [(n, "BLEU 12.25") for n in (1, 2, 3)]


def test_a_log_that_was_replaced_is_read_from_its_start(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "logs", "one", STARTED, PLAN, *map(step, range(1, 20)))
    feed = Feed(run_dir, "en")
    while feed.poll() or feed.reading:
        pass
    run_dir.events.unlink()
    writer = EventWriter(run_dir.events, "rank0", 1)
    writer.write(WARNED)
    writer.close()
    while feed.poll():
        pass
    assert [one.level for one in feed.log.lines()] == ["warning"]
