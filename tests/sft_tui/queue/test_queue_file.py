"""The file of a queue: what is read of any content, and what a change keeps."""

import json
import threading
from pathlib import Path

import pytest

from engine.contract.messages import InputError
from sft_tui.queue import entries, queue_file
from sft_tui.queue.queue_file import QueueFolder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> QueueFolder:
    monkeypatch.chdir(tmp_path)
    return QueueFolder(tmp_path / "logs")


def test_without_a_file_the_queue_is_empty_and_reading_makes_none(folder: QueueFolder) -> None:
    queue, wrong = folder.look()
    assert (queue.entries, wrong, folder.logs.exists()) == ((), [], False)


def test_what_is_added_is_read(folder: QueueFolder) -> None:
    assert folder.add("sft-small", {"epochs": 2}, "sft-small-1") == 1
    (entry,) = folder.read().entries
    assert (entry.preset, entry.values, entry.based_on, entry.state) == (
        "sft-small",
        {"epochs": 2},
        "sft-small-1",
        "waiting",
    )
    assert entry.project == str(Path.cwd())


def test_a_preset_may_be_a_file_in_a_deep_folder(folder: QueueFolder) -> None:
    path = "/".join(["deep" * 10] * 10) + "/own.toml"
    folder.add(path, {})
    folder.add("sft-small", {})
    assert [entry.preset for entry in folder.read().entries] == [path, "sft-small"]


def test_changes_from_many_threads_are_all_kept(folder: QueueFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_file, "PATIENCE", 120.0)
    threads = [threading.Thread(target=folder.add, args=("sft-small", {})) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [entry.number for entry in folder.read().entries] == list(range(1, 13))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"entries": 3}',
        '{"entries": [{"number": 1}]}',
        '{"entries": [], "following": -1}',
        "[" * 100_000,
    ],
    ids=lambda content: content[:30] or "empty",
)
def test_a_damaged_queue_is_said_and_kept_aside(folder: QueueFolder, content: str) -> None:
    folder.path.mkdir(parents=True)
    folder.file.write_text(content)
    queue, (message,) = folder.look()
    assert queue.entries == ()
    assert message.code == "queue_damaged"
    assert folder.file.read_text() == content  # looking changes nothing
    assert folder.add("sft-small", {}) == 1
    kept = folder.path / "queue-damaged-1.json"
    assert kept.read_text() == content
    _, (message,) = folder.look()
    assert (message.code, message.args["path"]) == ("queue_kept", str(kept))


def test_no_earlier_damaged_queue_is_overwritten(folder: QueueFolder) -> None:
    for number in (1, 2):
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.file.write_text(str(number))
        folder.add("sft-small", {})
    assert {path.read_text() for path in folder.path.glob("queue-damaged-*")} == {"1", "2"}


def test_a_link_in_its_place_is_not_followed(folder: QueueFolder, tmp_path: Path) -> None:
    folder.path.mkdir(parents=True)
    (tmp_path / "theirs.json").write_text("{}")
    folder.file.symlink_to(tmp_path / "theirs.json")
    with pytest.raises(InputError, match="link"):
        folder.add("sft-small", {})
    assert (tmp_path / "theirs.json").read_text() == "{}"


def test_a_queue_from_elsewhere_starts_nothing_by_itself(folder: QueueFolder, tmp_path: Path) -> None:
    folder.add("sft-small", {})
    copy = QueueFolder(tmp_path / "copied")
    copy.path.mkdir(parents=True)
    copy.file.write_bytes(folder.file.read_bytes())
    found = copy.read()
    assert found.paused
    assert found.why is not None
    assert found.why.code == "queue_from_elsewhere"
    copy.add("sft-small", {})
    assert copy.read().paused
    copy.change(entries.without_pause)
    assert not copy.read().paused


def test_without_a_machine_id_the_folder_still_counts(folder: QueueFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_file, "MACHINE", Path("absent"))
    folder.add("sft-small", {})
    assert not folder.read().paused


def test_a_lock_that_is_never_released_is_said(folder: QueueFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_file, "PATIENCE", 0.05)
    with folder.changing(), pytest.raises(InputError, match="for too long"):
        folder.add("sft-small", {})


def test_what_a_newer_version_wrote_is_kept(folder: QueueFolder) -> None:
    folder.add("sft-small", {})
    value = json.loads(folder.file.read_text())
    value["colour"], value["entries"][0]["shape"] = "blue", "round"
    folder.file.write_text(json.dumps(value))
    folder.add("sft-small", {})
    again = json.loads(folder.file.read_text())
    assert (again["colour"], again["entries"][0]["shape"]) == ("blue", "round")


def test_numbers_go_on_after_damage(folder: QueueFolder) -> None:
    for _ in range(3):
        folder.add("sft-small", {})
    folder.change(entries.removed, 3)
    folder.file.write_text("")
    assert folder.add("sft-small", {}) == 4


@pytest.mark.parametrize("content", [b"", b"x", b"-5", b"9" * 40, b"\xd9\xa3", b"\0" * 99])
def test_the_number_is_read_of_any_content(folder: QueueFolder, content: bytes) -> None:
    folder.add("sft-small", {})
    (folder.path / "changes.lock").write_bytes(content)
    folder.file.write_text("{")
    assert folder.add("sft-small", {}) >= 1
    assert folder.read().entries[0].preset == "sft-small"
