"""Settings as people type them: `~`, the names that other programs have for them, values by other names."""

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from engine.contract import environment
from engine.contract.config import FIELDS, setting_of
from engine.contract.texts import LANGUAGE
from sft_tui import notifying, options
from sft_tui.cli.main import cli as app
from sft_tui.options import ALIASES, HomePath, config_options, given, parse, setting_text, unit_text

PATHS = [name for name in FIELDS if setting_of(name).path]


def values(*arguments: str) -> dict[str, Any]:
    """The settings that a command gets."""
    got: dict[str, Any] = {}

    @click.command()
    @config_options("en")
    def command(**settings: Any) -> None:
        got.update(given(settings))

    result = CliRunner().invoke(command, list(arguments))
    assert result.exit_code == 0, result.output
    return got


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_every_setting_that_names_a_file_is_known_to_be_a_path() -> None:
    endings = ("_file", "_dir", "pretrained_model", "_store", "_dict", "tokenizer")
    assert set(PATHS) == {name for name in FIELDS if name.endswith(endings)}


@pytest.mark.parametrize("name", PATHS)
def test_a_tilde_is_the_home_folder_however_a_path_is_given(home: Path, name: str) -> None:
    for arguments in ([f"--{name}=~/y z"], [f"--{name}", "~/y z"]):
        assert values(*arguments) == {name: f"{home}/y z"}
    assert parse(name, " ~/y z ") == f"{home}/y z"
    assert parse(name, "~") == str(home)


@pytest.mark.parametrize("typed", ["./~/x", "a~", "a/~/b", "~nobody-of-that-name/x", ""])
def test_a_tilde_that_is_no_home_folder_stays(typed: str) -> None:
    assert parse("output_dir", typed) == typed


def test_text_that_is_not_a_path_keeps_its_tilde() -> None:
    assert values("--prompt_column=~") == {"prompt_column": "~"}


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["runs", "--logs=~/kept"], "~/kept"),
        (["status", "--logs", "~/kept"], "~/kept"),
        (["data", "check", "~/rows.parquet"], "~/rows.parquet"),
        (["reply", "--model=~/model", "x"], "~/model"),
    ],
)
def test_other_options_expand_the_home_folder(home: Path, words: list[str], name: str) -> None:
    result = CliRunner().invoke(app, words)
    said = result.output + str(result.exception)
    assert str(home / name.removeprefix("~/")) in said
    assert "~" not in said.replace(str(home), "")


def test_every_path_argument_expands_the_home_folder() -> None:
    def options(command: click.Command) -> list[click.Parameter]:
        below = command.commands.values() if isinstance(command, click.Group) else ()
        return [*command.params, *(parameter for each in below for parameter in options(each))]

    plain = [p.name for p in options(app) if isinstance(p.type, click.Path) and not isinstance(p.type, HomePath)]
    assert plain == []


@pytest.mark.parametrize(
    ("argument", "name", "value"),
    [
        ("--tokenizer_dir=tok", "tokenizer", "tok"),
        ("--finetune_from_ckp_file=m.bin", "pretrained_model", "m.bin"),
        ("--learning_rate=3e-5", "learn_rate", 3e-5),
        ("--mixed_precision=no", "mixed_precision", "fp32"),
    ],
)
def test_other_names_of_settings_and_values_are_understood(argument: str, name: str, value: object) -> None:
    assert values(argument) == {name: value}


def test_a_number_that_is_no_amount_says_what_it_means() -> None:
    assert [setting_text("eval_rows", value, "en") for value in (0, 10)] == ["0 (all)", "10"]
    assert setting_text("eval_rows", 0, "zh") == "0：全部"
    assert [unit_text("eval_rows", value, "en") for value in (0, 10)] == ["", " rows"]
    assert setting_text("dropout_rate", -1.0, "en").endswith("(the model's own)")
    assert setting_text("weight_decay", 0.0, "en") == "0"


def test_no_other_name_is_a_setting_itself() -> None:
    others = [alias for aliases in ALIASES.values() for alias in aliases]
    assert len(set(others)) == len(others)
    assert not set(others) & set(FIELDS)


def test_a_value_by_another_name_is_understood_on_the_screen() -> None:
    assert parse("mixed_precision", "no") == "fp32"
    assert parse("prompt_column", "no") == "no"


def variables(**values: str) -> dict[str, str]:
    return {options.variable(name): value for name, value in values.items()}


def test_the_environment_gives_what_the_command_line_does_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[dict[str, object]] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sft_tui.cli.starting_commands.start", lambda _name, values, **_how: asked.append(values))
    given = variables(epochs="7", learn_rate="2e-5", seed="")
    result = CliRunner().invoke(app, ["run", "sft-small", "--learn-rate", "1e-3"], env=given)
    assert asked == [{"epochs": 7, "learn_rate": 1e-3}]
    assert "epochs = 7 (SFT_TUI_EPOCHS)" in result.stderr
    assert "learn_rate" not in result.stderr


def test_what_a_resumed_run_had_outweighs_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[dict[str, object]] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sft_tui.cli.starting_commands.start", lambda _name, values, **_how: asked.append(values))
    given = variables(epochs="7", seed="4")
    CliRunner().invoke(app, ["run", "sft-small", "--resume", "--seed", "5"], env=given)
    assert asked == [{"seed": 5}]


def test_a_wrong_value_of_the_environment_is_named_with_its_variable() -> None:
    result = CliRunner().invoke(app, ["check", "sft-small"], env=variables(epochs="many"))
    assert result.exit_code == 2
    assert "SFT_TUI_EPOCHS" in result.output


def test_no_variable_of_a_setting_means_anything_else() -> None:
    others = {value for value in vars(environment).values() if isinstance(value, str)}
    others |= {notifying.VARIABLE, LANGUAGE}
    others |= {options.variable(name) for name in ("logs", "theme", "ascii", "slow_link")}
    assert not {options.variable(name) for name in FIELDS} & others


def test_options_of_the_screen_and_the_logs_are_taken_from_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shown: list[dict[str, object]] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sft_tui.cli.showing.show_screen", lambda logs, **how: shown.append({"logs": str(logs), **how}))
    given = variables(logs="elsewhere", theme="16", ascii="1", lang="zh")
    CliRunner().invoke(app, [], env=given)
    assert shown == [{"logs": "elsewhere", "theme": "16", "ascii_only": True, "lang": "zh", "slow_link": False}]
    assert "elsewhere" in CliRunner().invoke(app, ["runs"], env=given).output
