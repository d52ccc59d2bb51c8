"""When the process of a queue is started, and by what."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from engine.contract.locks import FolderLock
from engine.contract.messages import InputError
from sft_tui.queue import entries, queue_process
from sft_tui.queue.queue_file import QueueFolder


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that would have been started."""
    found: list[list[str]] = []
    monkeypatch.setattr(subprocess, "Popen", lambda command, **_how: found.append(command))
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> QueueFolder:
    monkeypatch.chdir(tmp_path)
    return QueueFolder(tmp_path / "logs")


def test_what_is_added_is_started_by_a_process_of_its_own(begun: list[list[str]], folder: QueueFolder) -> None:
    assert queue_process.add(folder, "sft-small", {"epochs": 2}) == 1
    assert [command[-2:] for command in begun] == [["sft_tui.queue.runner", str(folder.logs)]]
    assert "-P" in begun[0]


@pytest.mark.parametrize(("name", "values"), [("no-preset", {}), ("sft-small", {"epochs": -1})])
def test_what_no_run_could_be_is_refused_at_once(
    begun: list[list[str]], folder: QueueFolder, name: str, values: dict[str, Any]
) -> None:
    with pytest.raises(InputError):
        queue_process.add(folder, name, values)
    assert begun == []
    assert folder.read().entries == ()


def test_it_is_not_started_when_it_runs_when_paused_or_when_empty(begun: list[list[str]], folder: QueueFolder) -> None:
    assert not queue_process.ensure(folder, folder.read())
    folder.add("sft-small", {})
    lock = FolderLock.acquire(folder.path, "queue", folder.path, "logs")
    assert not queue_process.ensure(folder, folder.read())
    lock.release()
    assert not queue_process.ensure(folder, folder.change(entries.with_pause))
    assert begun == []
    assert not queue_process.resume(folder).paused
    assert len(begun) == 1
