"""What the commands that start runs refuse before anything starts; test_main.py has them with runs that train."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from engine.contract.events import RunEnded
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
