"""The commands for the queue; tests/sft_tui/queue/test_runner.py has them with runs that train."""

import json
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sft_tui.cli import main, queue_commands
from sft_tui.queue import entries, queue_process
from sft_tui.queue.queue_file import QueueFolder


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project of its own, in which no process is started."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(queue_commands, "LANG", "en")
    monkeypatch.setattr(subprocess, "Popen", lambda *_command, **_how: None)
    monkeypatch.setattr(queue_process, "GRACE_SECONDS", 0.0)


def queue(*words: str) -> Result:
    return CliRunner().invoke(main.cli, ["queue", *words])


def test_an_empty_queue_is_said() -> None:
    result = queue()
    assert (result.exit_code, result.stdout, result.stderr.strip()) == (0, "", "Nothing is waiting.")
    assert not Path("logs").exists()


def test_entries_are_added_moved_removed_and_listed() -> None:
    for preset in ("sft-small", "pretrain", "sft"):
        assert queue("add", preset, "--epochs", "2").exit_code == 0
    assert "now in place 1" in queue("move", "3", "1").stderr
    assert queue("remove", "1").exit_code == 0
    assert [line.split()[0] for line in queue().stdout.splitlines()] == ["NO.", "3", "2"]
    shown = json.loads(queue("--json").stdout)
    assert [(one["number"], one["values"], one["state"]) for one in shown["entries"]] == [
        (3, {"epochs": 2}, "waiting"),
        (2, {"epochs": 2}, "waiting"),
    ]


def test_it_is_paused_and_resumed() -> None:
    queue("add", "sft-small")
    assert "paused" in queue("pause").stderr
    assert QueueFolder(Path("logs")).read().paused
    assert queue("resume").stderr.strip().endswith("1 waiting.")
    assert not QueueFolder(Path("logs")).read().paused


def test_a_killed_process_is_started_again_and_said() -> None:
    queue("add", "sft-small")
    assert "started again" in queue().stderr
    QueueFolder(Path("logs")).change(entries.with_pause)
    assert "started again" not in queue().stderr


def test_a_process_that_is_only_starting_is_not_called_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    queue("add", "sft-small")
    looks = iter([False, False, True])
    monkeypatch.setattr(queue_process, "GRACE_SECONDS", 60.0)
    monkeypatch.setattr(queue_process, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(QueueFolder, "runs", property(lambda _: next(looks, True)))
    shown = queue()
    assert "started again" not in shown.stderr
    assert next(looks, "all looked at") == "all looked at"
    assert "1 waiting" in shown.stderr


def test_a_damaged_queue_is_said() -> None:
    Path("logs/queue").mkdir(parents=True)
    Path("logs/queue/queue.json").write_text("{")
    assert "is damaged" in queue().stderr


@pytest.mark.parametrize("option", [["--logs", "elsewhere"], ["--json"]])
def test_an_option_before_a_command_is_refused(option: list[str]) -> None:
    result = queue(*option, "pause")
    assert result.exit_code == 2
    assert option[0] in result.stderr
    assert not Path("logs").exists()
