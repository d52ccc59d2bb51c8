"""What is printed about the runs that keep running."""

import os
from pathlib import Path

import pytest

from engine.contract.locks import FolderLock
from engine.contract.rundir import RunDir
from engine.contract.texts import Lang
from sft_tui import left_running
from sft_tui.queue.queue_file import QueueFolder
from tests.sft_tui.conftest import PLAN, STARTED, moved_elsewhere, step
from tests.sft_tui.screen.conftest import write_run


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs, of which the second is held by this process."""
    monkeypatch.chdir(tmp_path)
    for name in ("sft-small-1", "sft-small-2"):
        run_dir = write_run(Path("logs").absolute(), name, STARTED, PLAN, *(step(number) for number in range(1, 65)))
        os.utime(run_dir.record, (int(name[-1]), int(name[-1])))
    return Path("logs")


@pytest.mark.parametrize(
    ("lang", "place"), [("en", "sft-small-2 keeps running (step 64/100"), ("zh", "sft-small-2 继续运行（第 64/100 步")]
)
def test_a_run_that_is_alive_is_named_with_its_commands(logs: Path, lang: Lang, place: str) -> None:
    assert left_running.lines(logs, lang) == []
    lock = FolderLock.acquire(logs / "sft-small-2", "sft-small-2", logs / "sft-small-2")
    try:
        (line,) = left_running.lines(logs, lang)
    finally:
        lock.release()
    assert line.startswith(place)
    assert line.endswith("sft-tui attach sft-small-2 · sft-tui stop sft-small-2")


def test_a_run_that_writes_on_another_machine_is_named(logs: Path) -> None:
    moved_elsewhere(RunDir(logs / "sft-small-2"))
    (line,) = left_running.lines(logs, "en")
    assert line.startswith("sft-small-2 keeps running (step 64/100")


def test_other_logs_are_named_in_the_commands_and_many_runs_counted(tmp_path: Path) -> None:
    logs, locks = tmp_path / "my logs", []
    try:
        for number in range(left_running.MOST_NAMED + 2):
            run_dir = write_run(logs, f"run-{number}", STARTED)
            locks.append(FolderLock.acquire(run_dir.path, run_dir.path.name, run_dir.path))
        lines = left_running.lines(logs, "en")
    finally:
        for lock in locks:
            lock.release()
    assert len(lines) == left_running.MOST_NAMED + 1
    assert lines[0].endswith(f"--logs '{logs}'")
    assert lines[-1] == f"2 more runs: sft-tui runs --logs '{logs}'"


def test_a_queue_that_keeps_running_is_named(logs: Path) -> None:
    folder = QueueFolder(logs)
    folder.add("sft", {}, "")
    folder.add("sft-small", {"epochs": 7}, "")
    assert left_running.lines(logs, "en") == []  # its process is not alive
    lock = FolderLock.acquire(folder.path, "queue", folder.path, "logs")
    try:
        (line,) = left_running.lines(logs, "en")
    finally:
        lock.release()
    assert line == "The queue keeps running, 2 waiting. sft-tui queue · sft-tui queue pause"


def test_a_folder_that_is_not_there_has_no_runs(tmp_path: Path) -> None:
    assert left_running.lines(tmp_path / "absent", "en") == []
