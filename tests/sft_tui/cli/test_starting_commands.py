"""What the commands that start runs refuse before anything starts; test_main.py has them with runs that train."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from engine.contract.events import RunEnded
from engine.contract.locks import FolderLock
from engine.contract.messages import InputError, Message
from sft_tui.cli import main
from tests.sft_tui.screen.conftest import write_run


@pytest.mark.parametrize("words", [["run", "sft", "--resume", "--fresh"], ["test"], ["test", "sft", "--run", "sft-1"]])
def test_options_that_exclude_each_other_are_refused(words: list[str]) -> None:
    result = CliRunner().invoke(main.cli, words)
    assert result.exit_code == 2
    assert "Error" in result.output


def test_a_run_that_is_not_paused_is_not_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(Path("logs"), "sft-small-1", RunEnded("stopped", 0, Message("ended_stopped", {"step": 3})))
    error = CliRunner().invoke(main.cli, ["continue"]).exception
    assert isinstance(error, InputError)
    assert error.message.code == "run_not_paused"


@pytest.mark.parametrize("command", ["resume", "continue"])
def test_a_run_in_use_is_refused_with_the_code_of_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Slurm's batch script waits for such a run."""
    monkeypatch.chdir(tmp_path)
    folder = Path("logs", "sft-small-1")
    write_run(Path("logs"), folder.name, RunEnded("stopped", 0, Message("ended_stopped", {"step": 3})))
    lock = FolderLock.acquire(folder, folder.name, folder)
    error = CliRunner().invoke(main.cli, [command]).exception
    lock.release()
    assert isinstance(error, InputError)
    assert (error.message.code, error.exit_code) == ("run_running", 3)
