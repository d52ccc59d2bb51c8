"""What the commands share: the options of the screen, the names of runs in a shell, and the progress of reading."""

import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from engine.contract.config import to_json
from engine.contract.presets import preset
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir
from sft_tui.cli import common, main
from sft_tui.cli.common import reading_progress, report_outdated_texts, screen_options


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three runs in this folder, whose preset two of them share."""
    monkeypatch.chdir(tmp_path)
    for name in ("sft-small-1", "sft-small-2", "other-1"):
        run_dir = RunDir(Path("logs", name))
        run_dir.path.mkdir(parents=True)
        run_dir.write_record(RunRecord(name, "sft-small", "train", to_json(preset("sft-small").config)))


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(
    ("words", "typed", "offered"),
    [
        (["status"], "sft", {"sft-small-1", "sft-small-2"}),
        (["resume"], "sft-small-1", {"sft-small-1"}),
        (["test", "--run"], "", {"sft-small-1", "sft-small-2", "other-1"}),
        (["reply", "--run"], "o", {"other-1"}),
        (["stop", "--logs", "absent"], "", set()),
    ],
)
def test_a_shell_completes_the_names_of_runs(words: list[str], typed: str, offered: set[str]) -> None:
    found = ShellComplete(main.cli, {}, "sft-tui", "_SFT_TUI_COMPLETE").get_completions(words, typed)
    assert {one.value for one in found} == offered


@screen_options
@click.command()
def shown(**chosen: object) -> None:
    click.echo(repr(sorted(chosen.items())))


@pytest.mark.parametrize(
    ("words", "chosen"),
    [
        ([], {"ascii_only": False, "lang": None, "slow_link": False, "theme": "auto"}),
        (
            ["--theme", "16", "--lang", "zh", "--ascii", "--slow-link"],
            {"ascii_only": True, "lang": "zh", "slow_link": True, "theme": "16"},
        ),
    ],
)
def test_the_screen_is_set_by_options(words: list[str], chosen: dict[str, object]) -> None:
    result = CliRunner().invoke(shown, words)
    assert result.output == f"{sorted(chosen.items())!r}\n"


@pytest.mark.parametrize("words", [["--theme", "blue"], ["--lang", "fr"]])
def test_a_screen_that_does_not_exist_is_refused(words: list[str]) -> None:
    result = CliRunner().invoke(shown, words)
    assert result.exit_code == 2
    assert words[1] in result.output


def read(capsys: pytest.CaptureFixture[str], *totals: int) -> str:
    """What is printed on standard error while files with these numbers of rows are read."""
    with reading_progress() as progress:
        for total in totals:
            progress("train_file", total // 2, total)
    return capsys.readouterr().err


def test_progress_is_one_line_that_is_cleared(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common, "LANG", "en")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    text = read(capsys, 2000, 4000)
    assert "1,000/2,000" in text
    assert "2,000/4,000" in text
    assert "\n" not in text
    assert text.endswith("\r\x1b[K")


def test_without_a_terminal_or_rows_nothing_is_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read(capsys, 2000) == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert read(capsys, 0) == ""


@pytest.mark.parametrize("outdated", ["", "The texts are newer. Run `make texts`."])
def test_outdated_texts_are_reported_on_standard_error(
    outdated: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common, "fault", lambda _lang: outdated)
    report_outdated_texts()
    out, err = capsys.readouterr()
    assert (out, err.strip()) == ("", outdated)
