"""What is printed: nothing in it that a terminal would obey, whatever was typed or read."""

import ast
import json
import sys
import unicodedata
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import sft_tui
from engine.contract.messages import InputError
from sft_tui.cli.common import print_error
from sft_tui.cli.main import cli
from sft_tui.output import CLEAR_REST, Group, echo, echo_json, echo_over
from sft_tui.text import width

HOSTILE = "中\x1b]0;pwn\x07\x9b31m\u202e\u2066\u2028\r\x00\x7f\U000e0001\ud800文"

TYPED = HOSTILE.replace("\0", "").replace("\ud800", "\udcff")  # as far as a command line can hold it


def obeyed(text: str) -> list[str]:
    """The characters of a text that a terminal obeys, or that turn its lines round."""
    return [
        char for char in text if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") and char not in "\n\t"
    ]


def printed(*arguments: str) -> str:
    """What a command prints on both streams."""
    return CliRunner().invoke(cli, arguments).output


def test_text_is_printed_with_its_lines_and_no_other_controls(capfd: pytest.CaptureFixture[str]) -> None:
    echo(f"one\n\ttwo {HOSTILE}")
    echo(HOSTILE, err=True)
    out, err = capfd.readouterr()
    assert out.startswith("one\n\ttwo 中")
    assert out.count("\n") == 2
    assert not obeyed(out + err)


@pytest.mark.parametrize("indent", [None, 1])
def test_json_is_escaped_and_reads_back_unchanged(indent: int | None, capfd: pytest.CaptureFixture[str]) -> None:
    value = {"text": HOSTILE, HOSTILE: ["中文", 1.5, None, True]}
    echo_json(value, indent=indent)
    out, _ = capfd.readouterr()
    assert json.loads(out) == value
    assert not obeyed(out)
    assert "中文" in out


def test_nan_and_infinity_are_printed_as_text(capfd: pytest.CaptureFixture[str]) -> None:
    echo_json({"loss": float("nan")})
    assert capfd.readouterr().out == '{"loss": "NaN"}\n'


@pytest.mark.parametrize(
    "arguments",
    [
        ("status", "a", TYPED),
        ("status", "a", "b", TYPED),
        ("status", f"--{TYPED}"),
        ("status", f"--json={TYPED}"),
        (TYPED,),
        ("run", "sft-small", "--epochs", TYPED),
        ("run", TYPED),
        ("run", "sft-small", f"--epoch{TYPED}"),
        ("status", TYPED),
        ("logs", f"--logs={TYPED}", TYPED),
        ("data", "import", TYPED),
        ("presets", "show", TYPED),
        ("check", "sft-small", "--memory-limit", TYPED),
        ("attach", "--theme", TYPED),
    ],
    ids=ascii,
)
def test_an_error_repeats_typed_text_harmlessly(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, arguments)
    if isinstance(result.exception, InputError):
        print_error(result.exception, "en")
    said = result.output + capfd.readouterr().err
    assert result.exit_code != 0
    assert said
    assert not obeyed(said)


def test_an_error_of_a_group_keeps_its_usage_and_its_code() -> None:
    @click.group(cls=Group)
    def group() -> None:
        """A group."""

    @group.command()
    def fails() -> None:
        raise click.ClickException(HOSTILE)

    wrong, failed = CliRunner().invoke(group, ["fails", "x\x1b"]), CliRunner().invoke(group, ["fails"])
    assert (wrong.exit_code, failed.exit_code) == (2, 1)
    assert "Usage: group fails" in wrong.output
    assert not obeyed(wrong.output + failed.output)


def test_only_the_output_module_prints() -> None:
    """It makes texts harmless; all others are to go through it."""
    root = Path(sft_tui.__file__).parent
    calls = [
        (path.relative_to(root).as_posix(), node.lineno)
        for path in root.rglob("*.py")
        if path.name != "output.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "click.echo", "click.secho")
    ]
    assert calls == []


@pytest.mark.parametrize(("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_a_colour_is_for_terminals_that_may_show_it(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], coloured: bool
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    @click.command()
    def said() -> None:
        echo("a\x1b[2J", color="green")

    assert CliRunner().invoke(said, color=True).output == ("\x1b[32ma␛[2J\x1b[0m\n" if coloured else "a␛[2J\n")
    assert CliRunner().invoke(said, color=False).output == "a␛[2J\n"


@pytest.mark.parametrize("columns", [1, 2, 9, 30])  # in 9, a wide character does not fit in front of the ellipsis
@pytest.mark.parametrize(
    "line", ["reading data/train.parquet: 1,204 of 5,000 rows", "正在读取训练文件：第 1204 行，共 5000"]
)
def test_a_line_that_is_overwritten_stays_within_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    echo_over(line)
    assert capsys.readouterr().err == ""  # not a terminal: nothing to overwrite
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    echo_over(line)
    shown = capsys.readouterr().err.strip("\r").removesuffix(CLEAR_REST)
    assert width(shown) < columns
    assert line.startswith(shown.removesuffix("…"))
