"""The commands for runs that exist, of a run that has ended; test_main.py has them with runs that train."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from engine.contract.events import RunEnded
from engine.contract.messages import InputError, Message
from sft_tui.cli import main, run_commands, showing
from tests.sft_tui.screen.conftest import write_run


@pytest.fixture(autouse=True)
def one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project with one run, which was stopped."""
    for module in (run_commands, showing):
        monkeypatch.setattr(module, "LANG", "en")
    monkeypatch.chdir(tmp_path)
    write_run(Path("logs"), "sft-small-1", RunEnded("stopped", 0, Message("ended_stopped", {"step": 3})))


def test_runs_are_listed_for_people_and_for_programs() -> None:
    assert "sft-small-1" in CliRunner().invoke(main.cli, ["runs"]).output
    (one,) = json.loads(CliRunner().invoke(main.cli, ["runs", "--json"]).output)
    assert (one["run"], one["status"], one["alive"]) == ("sft-small-1", "stopped", False)


@pytest.mark.parametrize("command", ["stop", "pause"])
def test_a_run_that_has_ended_is_asked_for_nothing(command: str) -> None:
    error = CliRunner().invoke(main.cli, [command]).exception
    assert isinstance(error, InputError)
    assert error.message.code == "run_not_running"
