"""Every whole line is read exactly once, whatever stands around it, and no disk stops the writer."""

import errno
import itertools
import json
import os
import re
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract import events, stream
from engine.contract.bounds import MOST_ATTEMPTS
from engine.contract.events import MAX_LINE_BYTES, Envelope, Event, Heartbeat, Record, decode, encode
from engine.contract.messages import InputError
from engine.contract.stream import (
    EventReader,
    EventWriter,
    Place,
    first_evaluation,
    last_attempt,
    last_step,
    losses_after,
    next_attempt,
)

Patch = pytest.MonkeyPatch


def record(seq: int, attempt: int = 1, phase: str = "training") -> Record:
    """A record that its number tells from others."""
    return Record(Envelope("2026-02-03T04:05:06.789+08:00", float(seq), attempt, "rank0", seq), Heartbeat(phase))


def lines(*numbers: int, attempt: int = 1) -> bytes:
    """Whole lines."""
    return b"".join(encode(record(number, attempt)) for number in numbers)


def numbers(records: list[Record]) -> list[int]:
    """Which records these are."""
    return [each.envelope.seq for each in records]


def step_line(number: int, loss: float = 1.0, attempt: int = 1) -> bytes:
    """The whole line of a step."""
    step = events.Step(1, number, 99, loss, 1e-3, 1.0, 1, 1, 1, 0.1, 0.1, 0.1, 1, [])
    return encode(Record(Envelope("2026-02-03T04:05:06.789+08:00", 1.0, attempt, "rank0", number), step))


def append(path: Path, content: bytes) -> None:
    """Lets the stream grow."""
    with path.open("ab") as file:
        file.write(content)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the stream is, or will be."""
    return tmp_path / "events.jsonl"


@pytest.fixture
def reader(path: Path) -> EventReader:
    """A reader of the stream."""
    return EventReader(path)


# --- reading


@settings(deadline=None, max_examples=150)
@given(
    content=st.lists(
        st.one_of(
            st.binary(max_size=40).map(lambda noise: noise.replace(b"\n", b"")),
            st.binary(min_size=1, max_size=3).map(lambda noise: b"x" + noise.replace(b"\n", b"x") * 200),
            st.integers(0, 99).map(lambda number: lines(number)[:-1]),
            st.integers(0, 99).map(lambda number: lines(number)[:60]),
            st.just(lines(1)[:-1] + lines(2)[:-1]),
        ),
        max_size=12,
    ).map(b"\n".join),
    cuts=st.lists(st.integers(0, 3000), max_size=8),
    chunk=st.integers(1, 500),
)
def test_every_line_is_read_exactly_once_in_order(
    content: bytes, cuts: list[int], chunk: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("stream") / "events.jsonl"
    limit = len(lines(1)) + 100  # small, so that noise above it can be small
    whole = [line for line in content.split(b"\n")[:-1] if line.strip()]
    good = [found for line in whole if len(line) < limit and (found := decode(line))]
    places = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
    reader, found_records = EventReader(path), []

    with patch.object(stream, "MAX_LINE_BYTES", limit), patch.object(stream, "READ_BYTES", chunk):
        for start, end in itertools.pairwise(places):
            append(path, content[start:end])
            found_records += reader.poll()
        append(path, b"\n" + lines(100))
        found_records += reader.poll()

    last = content.split(b"\n")[-1]
    good += [found for found in [decode(last) if len(last) < limit else None] if found]
    assert repr(found_records) == repr([*good, record(100)])
    assert reader.malformed == len(whole) + bool(last.strip()) - len(good)


@settings(deadline=None, max_examples=100)
@given(chunks=st.lists(st.binary(max_size=200), max_size=10))
def test_a_stream_of_any_bytes_can_be_read(chunks: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("stream") / "events.jsonl"
    reader = EventReader(path)

    for number, chunk in enumerate(chunks):
        append(path, chunk + b"\n" + lines(number))
        assert numbers(reader.poll())[-1:] == [number]


def test_a_missing_stream_gives_nothing(reader: EventReader, path: Path) -> None:
    assert reader.poll() == []

    append(path, lines(1))

    assert numbers(reader.poll()) == [1]
    assert reader.poll() == []


def test_a_folder_in_place_of_the_stream_is_reported_on_reading(reader: EventReader, path: Path) -> None:
    path.mkdir()

    with pytest.raises(InputError, match="it is not a regular file"):
        reader.poll()


def test_a_partial_line_is_read_once_it_is_complete(reader: EventReader, path: Path) -> None:
    first, second = lines(1), lines(2)
    append(path, first + second[:30])
    assert numbers(reader.poll()) == [1]
    assert reader.poll() == []

    append(path, second[30:-1])
    assert reader.poll() == []

    append(path, b"\n")
    assert numbers(reader.poll()) == [2]
    assert reader.malformed == 0


def test_a_torn_line_costs_only_itself(reader: EventReader, path: Path) -> None:
    append(path, lines(1) + lines(2)[:40] + b"\n" + lines(3))

    assert numbers(reader.poll()) == [1, 3]
    assert reader.malformed == 1


def test_empty_lines_are_ignored(reader: EventReader, path: Path) -> None:
    append(path, b"\n\n  \n" + lines(1) + b"\n")

    assert numbers(reader.poll()) == [1]
    assert reader.malformed == 0


def test_a_truncated_stream_is_read_again(reader: EventReader, path: Path) -> None:
    append(path, lines(1, 2, 3) + lines(4)[:50])
    assert numbers(reader.poll()) == [1, 2, 3]

    os.truncate(path, 0)
    assert reader.poll() == []
    append(path, lines(5))

    assert numbers(reader.poll()) == [5]


def test_a_stream_truncated_within_a_long_line_is_read_again(reader: EventReader, path: Path) -> None:
    append(path, b"x" * (MAX_LINE_BYTES * 2))
    assert reader.poll() == []

    path.write_bytes(lines(1, 2))

    assert numbers(reader.poll()) == [1, 2]


def test_a_replaced_stream_is_read_again(reader: EventReader, path: Path) -> None:
    append(path, lines(1, 2) + lines(3)[:50])
    assert numbers(reader.poll()) == [1, 2]

    other = path.with_name("other")
    append(other, lines(*range(11, 31)))  # longer than the first was
    other.replace(path)

    assert numbers(reader.poll()) == list(range(11, 31))


@pytest.mark.parametrize("looked", [True, False], ids=["seen missing", "not seen missing"])
@pytest.mark.parametrize("count", [1, 20], ids=["shorter", "longer"])
def test_a_removed_and_recreated_stream_is_read_again(
    count: int, looked: bool, reader: EventReader, path: Path
) -> None:
    append(path, lines(1, 2))
    assert numbers(reader.poll()) == [1, 2]

    path.unlink()
    if looked:
        assert reader.poll() == []
    append(path, lines(*range(11, 11 + count)))

    assert numbers(reader.poll()) == list(range(11, 11 + count))


def test_a_disk_error_while_reading_loses_no_event(reader: EventReader, path: Path, monkeypatch: Patch) -> None:
    append(path, lines(*range(20)))
    real, calls = os.pread, itertools.count()

    def failing(fd: int, count: int, offset: int) -> bytes:
        if next(calls) == 2:
            raise OSError(errno.EIO, "Input/output error")
        return real(fd, count, offset)

    monkeypatch.setattr(stream, "READ_BYTES", 500)
    monkeypatch.setattr("engine.contract.stream.os.pread", failing)

    assert numbers(reader.poll() + reader.poll()) == list(range(20))


@pytest.mark.parametrize("size", [MAX_LINE_BYTES - 1, MAX_LINE_BYTES, 1 << 20, (1 << 20) + 7, 3 << 20])
def test_a_line_longer_than_any_event_is_skipped(size: int, reader: EventReader, path: Path) -> None:
    append(path, lines(1) + b"x" * size + b"\n" + lines(2) + b"{" * size)
    assert numbers(reader.poll()) == [1, 2]

    append(path, b"x" * size + b"\n" + lines(3))

    assert numbers(reader.poll()) == [3]
    assert reader.malformed == 2


def test_an_event_at_the_end_of_an_overlong_line_is_not_read(reader: EventReader, path: Path) -> None:
    append(path, b"x" * (1 << 20))
    assert reader.poll() == []

    append(path, lines(1) + lines(2))

    assert numbers(reader.poll()) == [2]


def test_an_endless_line_takes_no_memory(reader: EventReader, path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(64 << 20)

    tracemalloc.start()
    try:
        assert reader.poll() == []
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert held < 256 << 10
    assert peak < 8 << 20
    append(path, b"\n" + lines(1))
    assert numbers(reader.poll()) == [1]


def test_the_longest_line_written_can_be_read(reader: EventReader, path: Path) -> None:
    longest = record(1, phase="x" * (MAX_LINE_BYTES - len(encode(record(1, phase="")))))
    assert len(encode(longest)) == MAX_LINE_BYTES

    append(path, encode(longest))

    assert reader.poll() == [longest]


# --- reading on from a place, a part at a time


def kept(place: Place) -> Place:
    """A place after it was written down and read again."""
    return Place.from_json(json.loads(json.dumps(place.to_json())))


@settings(deadline=None, max_examples=100)
@given(
    content=st.lists(
        st.one_of(st.integers(0, 99).map(lambda number: lines(number)[:-1]), st.binary(max_size=300)), max_size=8
    ).map(b"\n".join),
    cut=st.integers(0, 2000),
)
def test_reading_from_a_saved_position_skips_and_repeats_no_line(
    content: bytes, cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("stream") / "events.jsonl"
    append(path, content[:cut])
    first = EventReader(path)
    found = first.poll()

    append(path, content[cut:] + b"\n")
    second = EventReader(path, kept(first.place))
    found += second.poll()

    assert found == EventReader(path).poll()
    assert second.restarts == 0


def test_a_position_is_after_the_last_whole_line(reader: EventReader, path: Path) -> None:
    append(path, lines(1, 2) + lines(3)[:40])
    reader.poll()

    assert reader.place.offset == len(lines(1, 2))
    assert EventReader(path, kept(reader.place)).poll() == []


def test_a_position_inside_an_overlong_line_loses_only_that_line(reader: EventReader, path: Path) -> None:
    append(path, lines(1) + b"x" * (3 * MAX_LINE_BYTES))
    reader.poll()

    second = EventReader(path, kept(reader.place))
    append(path, b"x\n" + lines(2))

    assert numbers(second.poll()) == [2]


@pytest.mark.parametrize("cut", [0, 1, 255, 256, 257, 5000])
def test_a_position_in_another_file_starts_at_its_beginning(cut: int, path: Path) -> None:
    append(path, lines(*range(40))[: cut or None])
    first = EventReader(path)
    first.poll()
    path.unlink()
    append(path, lines(*range(100, 200)))

    second = EventReader(path, kept(first.place))

    assert numbers(second.poll()) == list(range(100, 200))
    assert second.restarts == (first.place.offset > 0)


def test_a_position_beyond_the_end_starts_at_the_beginning(reader: EventReader, path: Path) -> None:
    append(path, lines(1, 2, 3))
    reader.poll()
    os.truncate(path, len(lines(1)))

    second = EventReader(path, kept(reader.place))

    assert numbers(second.poll()) == [1]
    assert second.restarts == 1


@pytest.mark.parametrize(
    "value",
    [None, [], {}, {"device": 1}, {"device": "x", "inode": 1, "offset": 0, "seen": ""}]
    + [{"device": 1, "inode": 1, "offset": 0, "seen": wrong} for wrong in ("zz", None, 5)],
)
def test_an_invalid_position_is_refused(value: Any) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Place.from_json(value)


def test_a_long_stream_is_read_a_part_at_a_time(reader: EventReader, path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setattr(stream, "READ_BYTES", 500)
    append(path, lines(*range(100)))
    parts = []
    while part := reader.poll(1000):
        parts.append(numbers(part))

    assert list(itertools.chain(*parts)) == list(range(100))
    assert len(parts) >= len(lines(*range(100))) // 1500
    assert max(map(len, parts)) * len(lines(1)) <= 2000


def test_a_reader_counts_its_restarts(reader: EventReader, path: Path) -> None:
    assert reader.poll() == []
    append(path, lines(1))
    reader.poll()
    assert reader.restarts == 0

    os.truncate(path, 0)
    reader.poll()
    assert reader.restarts == 1

    append(path, lines(2))
    reader.poll()
    path.unlink()
    reader.poll()
    append(path, lines(3))
    assert numbers(reader.poll()) == [3]
    assert reader.restarts == 2


# --- writing


def test_written_events_are_read_back(reader: EventReader, path: Path) -> None:
    writer = EventWriter(path, "rank1", 3)
    writer.write(Heartbeat("loading"))
    writer.write(Heartbeat("training"))
    writer.close()

    first, second = reader.poll()

    assert (first.event, second.event) == (Heartbeat("loading"), Heartbeat("training"))
    assert [(each.envelope.attempt, each.envelope.src, each.envelope.seq) for each in (first, second)] == [
        (3, "rank1", 1),
        (3, "rank1", 2),
    ]
    assert first.envelope.mono <= second.envelope.mono
    assert first.envelope.at[-6] in "+-"  # the wall clock with its zone


@pytest.mark.parametrize(("before", "expected"), [(b"", [1]), (lines(7), [7, 1]), (lines(7) + lines(8)[:50], [7, 1])])
def test_a_writer_begins_on_a_new_line(before: bytes, expected: list[int], reader: EventReader, path: Path) -> None:
    path.write_bytes(before)

    writer = EventWriter(path, "rank0", 1)
    writer.write(Heartbeat("training"))
    writer.close()

    assert numbers(reader.poll()) == expected
    assert path.read_bytes().startswith(before)
    assert b"\n\n" not in path.read_bytes()


WRITING = """
path, src, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
writer = stream.EventWriter(Path(path), src, 1)
gate()
for number in range(count):
    writer.write(events.Sample(1, number, 1, "x" * (number * 7919 % 50_000), src, "y"))
"""


def test_two_processes_write_whole_lines_into_one_stream(
    together: Callable[..., list[str]], reader: EventReader, path: Path
) -> None:
    together(WRITING, [[path, "rank0", 400], [path, "rank1", 400]])

    records = reader.poll()

    assert reader.malformed == 0
    for src in ("rank0", "rank1"):
        mine = [each for each in records if each.envelope.src == src]
        assert numbers(mine) == list(range(1, 401))
        for number, each in enumerate(mine):
            assert each.event == events.Sample(1, number, 1, "x" * (number * 7919 % 50_000), src, "y")


def test_threads_of_one_process_write_through_one_writer(reader: EventReader, path: Path) -> None:
    """A rank's heartbeats come from a thread of their own."""
    writer = EventWriter(path, "rank0", 1)
    threads = [
        threading.Thread(target=write_each, args=(writer, *[f"{name} {number}" for number in range(300)]))
        for name in ("a", "b")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    writer.close()

    records = reader.poll()

    assert numbers(records) == list(range(1, 601))
    phases = [each.event.phase for each in records if isinstance(each.event, Heartbeat)]
    for name in ("a", "b"):
        assert [phase for phase in phases if phase.startswith(name)] == [f"{name} {number}" for number in range(300)]


# --- a disk that fails


def full(_fd: int, _line: bytes) -> int:
    """A disk without space."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def write_each(writer: EventWriter, *phases: str) -> None:
    """Writes a heartbeat for each phase."""
    for phase in phases:
        writer.write(Heartbeat(phase))


def gap(event: Event) -> dict[str, Any]:
    """What the warning of a gap says."""
    assert isinstance(event, events.Warning)
    assert event.message.code == "log_gap"
    return dict(event.message.args)


def test_a_gap_is_marked_as_soon_as_writing_works_again(reader: EventReader, path: Path, monkeypatch: Patch) -> None:
    writer = EventWriter(path, "rank0", 1)
    write_each(writer, "a")
    with monkeypatch.context() as broken:
        broken.setattr("engine.contract.stream.os.write", full)
        write_each(writer, "lost", "lost", "lost")
    write_each(writer, "b", "c")
    writer.close()

    found = [each.event for each in reader.poll()]

    assert [found[0], *found[2:]] == [Heartbeat("a"), Heartbeat("b"), Heartbeat("c")]
    assert gap(found[1]) == {"lost": 3, "why": "No space left on device"}
    assert reader.malformed == 0


def test_every_gap_is_marked_with_its_own_count(reader: EventReader, path: Path, monkeypatch: Patch) -> None:
    writer = EventWriter(path, "rank0", 1)
    for lost in (2, 1):
        with monkeypatch.context() as broken:
            broken.setattr("engine.contract.stream.os.write", full)
            write_each(writer, *["lost"] * lost)
        write_each(writer, "b")
    writer.close()

    found = [each.event for each in reader.poll()]

    assert [gap(found[0])["lost"], gap(found[2])["lost"]] == [2, 1]
    assert [found[1], found[3]] == [Heartbeat("b"), Heartbeat("b")]


def test_the_numbers_of_a_writer_only_rise(reader: EventReader, path: Path, monkeypatch: Patch) -> None:
    writer = EventWriter(path, "rank0", 1)
    with monkeypatch.context() as broken:
        broken.setattr("engine.contract.stream.os.write", full)
        write_each(writer, "lost", "lost")
    write_each(writer, "b", "c")
    writer.close()

    found = numbers(reader.poll())

    assert len(found) == 3
    assert found == sorted(set(found))


@pytest.mark.parametrize("kept", [0, 1, 40])
def test_a_partially_written_line_spoils_no_other(
    kept: int, reader: EventReader, path: Path, monkeypatch: Patch
) -> None:
    writer, real = EventWriter(path, "rank0", 1), os.write
    write_each(writer, "a")
    with monkeypatch.context() as broken:
        broken.setattr("engine.contract.stream.os.write", lambda fd, line: real(fd, line[:kept]))
        write_each(writer, "lost")
    write_each(writer, "b")
    writer.close()

    found = [each.event for each in reader.poll()]

    assert [found[0], found[2]] == [Heartbeat("a"), Heartbeat("b")]
    assert gap(found[1])["lost"] == 1
    assert reader.malformed == (kept > 0)


LIMITED = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
writer = stream.EventWriter(Path(sys.argv[1]), "rank0", 1)
gate()
no_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, no_limit[1]))
for number in range(100):
    writer.write(events.Heartbeat(str(number)))
resource.setrlimit(resource.RLIMIT_FSIZE, no_limit)
writer.write(events.Heartbeat("after"))
"""


def test_a_file_size_limit_stops_the_log_and_not_the_writer(
    together: Callable[..., list[str]], reader: EventReader, path: Path
) -> None:
    together(LIMITED, [[path]])

    *before, marked, after = [each.event for each in reader.poll()]

    assert 10 < len(before) < 50
    assert before == [Heartbeat(str(number)) for number in range(len(before))]
    assert gap(marked)["lost"] == 100 - len(before)
    assert after == Heartbeat("after")
    assert reader.malformed <= 1


def test_the_listener_hears_every_event_while_the_disk_is_full(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Record] = []
    writer = EventWriter(path, "rank0", 2, heard.append)

    def full(_fd: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("engine.contract.stream.os.write", full)
        write_each(writer, "a", "b", "c")
    writer.close()

    assert path.read_bytes() == b""
    assert [each.event for each in heard] == [Heartbeat("a"), Heartbeat("b"), Heartbeat("c")]
    assert {each.envelope.attempt for each in heard} == {2}


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError("gone"), ValueError("closed file")])
def test_a_listener_that_lost_its_terminal_does_not_stop_the_writer(
    reader: EventReader, path: Path, error: Exception
) -> None:
    def gone(_: Record) -> None:
        raise error

    writer = EventWriter(path, "rank0", 1, gone)
    write_each(writer, "a", "b")
    writer.close()
    assert [each.event for each in reader.poll()] == [Heartbeat("a"), Heartbeat("b")]


def test_the_listener_hears_what_is_written(reader: EventReader, path: Path) -> None:
    heard: list[Record] = []
    writer = EventWriter(path, "rank0", 1, heard.append)
    write_each(writer, "a", "b")
    writer.close()

    assert heard == reader.poll()


# --- the newest attempt


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", 0),
        (b"garbage\n", 0),
        (lines(1), 1),
        (lines(1, attempt=1) + lines(1, attempt=2), 2),
        (lines(1, attempt=2) + lines(9, attempt=1), 2),
        (lines(1, attempt=3) + b"\xff" * 1000 + b"\n", 3),
        (lines(1, attempt=3) + lines(1, attempt=4)[:60], 3),
        (lines(1, attempt=1) * 3000 + lines(1, attempt=5), 5),
    ],
    ids=["empty", "garbage", "one", "two", "straggler", "noise", "torn", "long"],
)
def test_the_newest_attempt_is_found(content: bytes, expected: int, path: Path) -> None:
    path.write_bytes(content)

    assert last_attempt(path) == expected


def test_a_stream_with_no_attempt_number_left_is_reported(path: Path) -> None:
    path.write_bytes(lines(1, attempt=MOST_ATTEMPTS - 1))
    assert next_attempt(path) == MOST_ATTEMPTS
    append(path, lines(1, attempt=MOST_ATTEMPTS))
    with pytest.raises(InputError, match=re.escape(str(path))):
        next_attempt(path)
    append(path, lines(1, attempt=MOST_ATTEMPTS + 1))  # which is not an event
    assert last_attempt(path) == MOST_ATTEMPTS


def test_a_missing_stream_has_no_attempt(path: Path) -> None:
    assert last_attempt(path) == 0


def test_a_folder_in_place_of_the_stream_is_reported_on_writing(path: Path) -> None:
    with pytest.raises(InputError, match=re.escape(str(path.parent))):
        last_attempt(path.parent)


def test_the_newest_attempt_is_found_without_reading_a_long_stream(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(64 << 30)  # a hole; it takes no space, and longer to read than anybody waits
    append(path, b"\n" + lines(1, attempt=6))

    assert last_attempt(path) == 6


# --- the newest step, and the losses that a resumed run has to repeat


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", 0),
        (lines(1), 0),
        (step_line(1) + step_line(2), 2),
        (step_line(9) + step_line(7, attempt=2), 7),
        (step_line(5) + lines(1) + b"garbage\n", 5),
        (step_line(5) + step_line(6)[:50], 5),
        (step_line(1) * 3000 + step_line(2), 2),
    ],
    ids=["empty", "no step", "two", "an attempt that repeats", "others behind it", "torn", "long"],
)
def test_the_newest_step_is_found(content: bytes, expected: int, path: Path) -> None:
    path.write_bytes(content)

    assert last_step(path) == expected


def test_a_missing_stream_has_no_step(path: Path) -> None:
    assert last_step(path) == 0
    assert losses_after(path, 0) == {}


def test_the_losses_after_a_step_are_those_of_its_last_attempt(path: Path) -> None:
    first = [step_line(number, loss=number) for number in range(1, 9)]
    second = [step_line(number, loss=number + 0.5, attempt=2) for number in (6, 7)]
    append(path, b"".join([*first, lines(1), *second, b"torn\n"]))

    assert losses_after(path, 5) == {6: 6.5, 7: 7.5, 8: 8.0}
    assert losses_after(path, 7) == {8: 8.0}
    assert losses_after(path, 8) == {}
    assert losses_after(path, 0) == {**{number: float(number) for number in (1, 2, 3, 4, 5, 8)}, 6: 6.5, 7: 7.5}


def test_losses_are_found_far_from_the_end_of_a_stream(path: Path) -> None:
    """What lies between: samples, readings, heartbeats."""
    noise = encode(Record(Envelope("", 1.0, 1, "rank0", 1), events.Sample(1, 1, 1, "x" * 60_000, "", "")))
    append(path, b"".join([step_line(3), *[step_line(4, loss=4.5), *[noise] * 30, step_line(5, loss=5.5)]]))

    assert losses_after(path, 3) == {4: 4.5, 5: 5.5}
    assert losses_after(path, 4) == {5: 5.5}


def test_losses_at_the_end_are_found_without_reading_a_long_stream(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(64 << 30)
    append(path, b"\n" + step_line(3) + step_line(4, loss=4.5))

    assert losses_after(path, 3) == {4: 4.5}


def evaluation_line(step: int, loss: float) -> bytes:
    """The whole line of an evaluation."""
    found = events.Eval(0, step, 9, loss, 1.0, 9, "", 1.0, "file")
    return encode(Record(Envelope("2026-02-03T04:05:06.789+08:00", 1.0, 1, "rank0", 1), found))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", None),
        (evaluation_line(0, 3.0), 3.0),
        (lines(1) + evaluation_line(0, 3.0) + evaluation_line(0, 2.0) + step_line(1) + evaluation_line(0, 1.0), 2.0),
        (step_line(1) + evaluation_line(5, 1.0), None),
    ],
)
def test_the_evaluation_before_the_first_step_is_found(path: Path, content: bytes, expected: float | None) -> None:
    assert first_evaluation(path) is None
    path.write_bytes(content)
    found = first_evaluation(path)
    assert (found and found.loss) == expected
