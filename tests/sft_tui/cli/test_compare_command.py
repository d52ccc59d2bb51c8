"""The command that compares runs, and the search in a log."""

import dataclasses
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from engine.contract.events import Sample, Warning
from engine.contract.messages import Message
from sft_tui.cli import compare_command, main, run_commands, showing
from tests.sft_tui.conftest import EVAL, PLAN, STARTED, step
from tests.sft_tui.screen.conftest import write_run


@pytest.fixture(autouse=True)
def two_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (run_commands, compare_command, showing):
        monkeypatch.setattr(module, "LANG", "en")
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        scored = dataclasses.replace(EVAL, bleu=10.0 + number, loss=5.0 - number)
        reply = Sample(1, 50, 0, "who are you?", "a model", f"reply {number}")
        warned = Warning(Message.of("gpu_unreadable", why="no driver"))
        write_run(Path("logs"), f"one-{number}", STARTED, PLAN, *map(step, range(1, 51)), scored, reply, warned)


def test_two_runs_are_compared_for_people_and_for_programs() -> None:
    shown = CliRunner().invoke(main.cli, ["compare", "one-1", "one-2"]).output
    for words in ("BLEU 11.00", "BLEU 12.00", "4.0000", "the same", "▸ who are you?", "one-2: reply 2"):
        assert words in shown
    found = json.loads(CliRunner().invoke(main.cli, ["compare", "one-1", "one-2", "--json"]).output)
    assert found["replies"][0]["replies"] == ["reply 1", "reply 2"]


@pytest.mark.parametrize("names", [["one-1"], ["one-1", "one-1"]])
def test_one_run_is_compared_with_nothing(names: list[str]) -> None:
    result = CliRunner().invoke(main.cli, ["compare", *names])
    assert result.exit_code == 2
    assert "at least two" in result.output


def test_runs_are_sorted_by_a_column() -> None:
    lines = CliRunner().invoke(main.cli, ["runs", "--sort", "eval"]).output.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["one-2", "one-1"]
    assert "TIME" in lines[0]


def test_a_log_is_searched_with_line_numbers() -> None:
    found = CliRunner().invoke(main.cli, ["logs", "one-1", "--search", "DRIVER"])
    (line,) = found.output.splitlines()
    assert "no driver" in line
    number = int(line.split()[0])
    warned = CliRunner().invoke(main.cli, ["logs", "one-1", "--level", "warnings", "--json"]).output
    assert json.loads(warned)["line"] == number
    whole = CliRunner().invoke(main.cli, ["logs", "one-1", "--level", "all"]).output.splitlines()
    assert [int(line.split()[0]) for line in whole] == list(range(1, len(whole) + 1))
    assert "no driver" in whole[number - 1]


def test_a_search_without_a_hit_fails() -> None:
    found = CliRunner().invoke(main.cli, ["logs", "one-1", "--search", "nothing"])
    assert found.exit_code == 1
    assert "No line has “nothing”." in found.output
