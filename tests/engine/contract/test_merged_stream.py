from pathlib import Path

from engine.contract import events
from engine.contract.events import Event
from engine.contract.merged_stream import MergedReader, Places, newest_has_ended
from engine.contract.messages import Message
from engine.contract.rundir import RunDir
from engine.contract.stream import EventWriter

FAILURE = events.RankFailed("failed", "training", 3, "it broke", "", False)


def write(path: Path, src: str, attempt: int, *found: Event) -> None:
    log = EventWriter(path, src, attempt)
    for event in found:
        log.write(event)
    log.close()


def test_what_another_rank_reports_comes_after_what_rank_0_wrote(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    write(run_dir.events_of(1), "rank1", 1, events.Heartbeat("training", 1, False, 7), FAILURE)
    write(run_dir.events, "rank0", 1, events.Phase("loading", 0, 0))
    reader = MergedReader(run_dir)
    found = reader.poll()
    assert [(record.envelope.src, record.event.kind) for record in found] == [
        ("rank0", "phase"),
        ("rank1", "rank_failed"),
    ]
    assert len(reader.begins) == 2
    again = MergedReader(run_dir, Places.from_json(reader.place.to_json()), attempt=1)
    assert again.poll() == []  # a viewer that was opened again reads nothing twice


def test_an_earlier_attempt_of_another_rank_says_nothing(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    write(run_dir.events_of(1), "rank1", 1, FAILURE)
    write(run_dir.events, "rank0", 2, events.Phase("loading", 0, 0))
    assert [record.envelope.src for record in MergedReader(run_dir).poll()] == ["rank0"]


def test_a_rank_ahead_of_rank_0_is_waited_for(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    reader = MergedReader(run_dir)
    write(run_dir.events_of(1), "rank1", 1, FAILURE)
    assert reader.poll() == []
    write(run_dir.events, "rank0", 1, events.Phase("loading", 0, 0))
    assert [record.envelope.src for record in reader.poll()] == ["rank0", "rank1"]


def test_an_end_of_any_rank_counts_for_its_own_attempt(tmp_path: Path) -> None:
    run_dir, end = RunDir(tmp_path), events.RunEnded("failed", 1, Message.of("ended_lost"))
    assert not newest_has_ended(run_dir)
    write(run_dir.events_of(1), "rank1", 1, end)
    assert newest_has_ended(run_dir)
    write(run_dir.events, "rank0", 2, events.Phase("loading", 0, 0))
    assert not newest_has_ended(run_dir)
