"""What stands in the place of a run's file does no harm: no link is followed, nothing is waited for, reads end."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.contract.durable import read_json, write_json
from engine.contract.events import Heartbeat
from engine.contract.files import open_regular, open_to_append, read_end, read_piece, read_whole
from engine.contract.messages import InputError
from engine.contract.rundir import RunDir
from engine.contract.stream import EventReader, EventWriter, last_attempt, last_step, losses_after


def a_socket(path: Path, _victim: Path) -> None:
    """A socket, which is left without its listener."""
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(os.path.relpath(path))


def a_chain(path: Path, victim: Path) -> None:
    """A link to a link."""
    path.with_name("via").symlink_to(victim)
    path.symlink_to("via")


def a_link_to_a_pipe(path: Path, _victim: Path) -> None:
    """A link to a pipe next to it."""
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


PLANTED: dict[str, Callable[[Path, Path], None]] = {
    "a link to a file": lambda path, victim: path.symlink_to(victim),
    "a link through a link": a_chain,
    "a link to nothing": lambda path, victim: path.symlink_to(victim.with_name("made")),
    "a link to an endless device": lambda path, _: path.symlink_to("/dev/zero"),
    "a pipe": lambda path, _: os.mkfifo(path),
    "a link to a pipe": a_link_to_a_pipe,
    "a socket": a_socket,
    "a folder": lambda path, _: path.mkdir(),
}
OPENERS: dict[str, Callable[[Path], object]] = {
    "read": read_whole,
    "read the end": lambda path: read_end(path, 100),
    "read a piece": lambda path: read_piece(path, 0, 100),
    "append": open_to_append,
    "empty": lambda path: open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    "write an event": lambda path: EventWriter(path, "app", 1),
}


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """Somebody's file, which stays as it is."""
    path = tmp_path / "victim.txt"
    path.write_text("precious")
    return path


@pytest.mark.parametrize("planted", PLANTED)
@pytest.mark.parametrize("opener", OPENERS)
def test_only_regular_files_are_read_and_written(
    planted: str, opener: str, tmp_path: Path, victim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "events.jsonl"
    PLANTED[planted](path, victim)
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match=r"."):
        OPENERS[opener](path)
    assert victim.read_text() == "precious"
    assert not (tmp_path / "made").exists()
    assert len(os.listdir("/proc/self/fd")) == descriptors


@pytest.mark.parametrize("opener", ["append", "empty", "write an event"])
def test_a_hard_linked_file_is_not_written(opener: str, tmp_path: Path, victim: Path) -> None:
    (tmp_path / "events.jsonl").hardlink_to(victim)
    with pytest.raises(OSError, match="hard link"):
        OPENERS[opener](tmp_path / "events.jsonl")
    assert victim.read_text() == "precious"
    assert read_whole(tmp_path / "events.jsonl") == b"precious"


@pytest.mark.parametrize("planted", PLANTED)
def test_a_stream_that_is_not_a_file_is_named(planted: str, tmp_path: Path, victim: Path) -> None:
    os.chdir(tmp_path)
    path = tmp_path / "events.jsonl"
    PLANTED[planted](path, victim)
    for read in (EventReader(path).poll, lambda: last_attempt(path), lambda: last_step(path)):
        with pytest.raises(InputError, match=r"events\.jsonl cannot be read"):
            read()
    with pytest.raises(InputError, match=r"events\.jsonl cannot be read"):
        losses_after(path, 0)


@pytest.mark.parametrize("planted", PLANTED)
def test_json_that_is_not_a_file_reads_as_empty_and_is_replaced(
    planted: str, tmp_path: Path, victim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "snapshot.json"
    PLANTED[planted](path, victim)
    assert read_json(path) == {}
    if planted != "a folder":
        write_json(path, {"a": 1})
        assert read_json(path) == {"a": 1}
    assert victim.read_text() == "precious"


def test_a_link_at_the_temporary_name_is_not_followed(tmp_path: Path, victim: Path) -> None:
    (tmp_path / f".tmp-sft-a.json-{os.getpid()}").symlink_to(victim)
    write_json(tmp_path / "a.json", {"a": 1})
    assert victim.read_text() == "precious"


def test_a_folder_that_is_a_link_is_followed(tmp_path: Path) -> None:
    """People keep logs and models on other disks."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "logs").symlink_to("disk")
    write_json(tmp_path / "logs" / "a.json", {"a": 1})
    EventWriter(tmp_path / "logs" / "events.jsonl", "app", 3).write(Heartbeat("training", 1))
    assert read_json(tmp_path / "logs" / "a.json") == {"a": 1}
    assert last_attempt(tmp_path / "logs" / "events.jsonl") == 3


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'{"a": 1}' + b" " * (16 << 20))
    with pytest.raises(OSError, match="more than 16 MB"):
        read_whole(tmp_path / "a.json")
    assert read_json(tmp_path / "a.json") == {}


def test_a_stream_with_a_terabyte_hole_is_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    writer = EventWriter(path, "rank0", 1)
    writer.write(Heartbeat("training", 1))
    os.truncate(path, 1 << 40)
    writer.write(Heartbeat("training", 2))  # ends the line that the hole is taken for
    writer.write(Heartbeat("training", 3))
    reader = EventReader(path)
    assert [record.event for record in reader.poll(128 << 10)] == [Heartbeat("training", 1)]
    assert Heartbeat("training", 3) in [record.event for record in reader.poll()]
    assert reader.restarts == 0


@pytest.mark.parametrize("ask", ["stop", "now", "clear"])
def test_a_request_is_not_written_through_a_link(ask: str, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "stop").write_text("precious")
    run_dir = RunDir(tmp_path / "run")
    run_dir.path.mkdir()
    (run_dir.path / "control").symlink_to("../theirs")
    with pytest.raises(OSError, match="link"):
        {"stop": run_dir.request_stop, "now": run_dir.request_now, "clear": run_dir.clear_requests}[ask]()
    assert [path.name for path in (tmp_path / "theirs").iterdir()] == ["stop"]
    assert (tmp_path / "theirs" / "stop").read_text() == "precious"
