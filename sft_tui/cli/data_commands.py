"""The commands for the user's own data."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

import click
from click.core import ParameterSource

from engine.contract.bounds import as_json
from engine.contract.config import RunConfig, override, setting_of
from engine.contract.inputs import ImportForm
from engine.contract.presets import preset
from engine.contract.texts import say
from sft_tui import text
from sft_tui.cli.common import LANG, Command, complete_preset, reading_progress
from sft_tui.options import OF_ROWS, GroupedCommand, HomePath, SourcePath, config_options, given
from sft_tui.output import echo, echo_json, terminal_columns


@click.group()
def data() -> None:
    """Import, look at and check your own data."""


def setting_option(name: str) -> Callable[[Command], Command]:
    """A decorator that adds the option of a setting, with its help and `sft-small`'s default."""
    value = getattr(preset("sft-small").config, name)
    return click.option(f"--{name}", default=value, show_default=True, help=setting_of(name).help(LANG))


USUAL_PRESET = "sft-small"
LINE = 100  # columns of lines that no terminal shows
COLUMNS = ("prompt_column", "response_column", "messages_column")
preset_option = click.option(
    "--preset",
    "preset_name",
    metavar="PRESET",
    default=USUAL_PRESET,
    show_default=True,
    shell_complete=complete_preset,
)
row_options = config_options(LANG, OF_ROWS)
file_argument = click.argument("file", type=HomePath(exists=True, dir_okay=False, path_type=Path))


def file_config(file: Path, preset_name: str, values: Mapping[str, Any]) -> RunConfig:
    """The settings for looking at one file; a model that is named comes with its own tokenizer unless one is named."""
    named = given(values)
    own = {"tokenizer": ""} if "pretrained_model" in named else {}
    config, _ = override(preset(preset_name).config, {**own, **named, "train_file": str(file)})
    return config


TEST_FILE, TEST_SHARE = preset("sft-small").config.test_file, 0.05


class History(click.ParamType[int | None]):
    """`all`, `none` or a number of turns; converted to None, 0 or that number."""

    name = "all|none|N"

    def convert(self, value: Any, _param: click.Parameter | None, _ctx: click.Context | None) -> int | None:
        """The number of turns."""
        if value is None or isinstance(value, int) or value == "all":
            return None if value == "all" else value
        if value == "none":
            return 0
        if not (value.isascii() and value.isdigit() and len(value) <= 9):
            self.fail(say("usage.history", LANG, value=text.safe(value, 60)))
        return int(value)


train_option = click.option(
    "--train",
    type=HomePath(),
    default=preset("sft-small").config.train_file,
    show_default=True,
)
valid_option = click.option(
    "--valid",
    type=HomePath(),
    default=preset("sft-small").config.validation_file,
    show_default=True,
)


@data.command("import")
@click.argument("files", nargs=-1, required=True, type=SourcePath(exists=True, allow_dash=True))
@train_option
@valid_option
@click.option(
    "--valid-ratio",
    type=click.FloatRange(0, 0.9),
    metavar="SHARE",
    default=0.1,
    show_default=True,
)
@click.option("--test", type=HomePath(), default=None)
@click.option("--test-ratio", type=click.FloatRange(0, 0.9), metavar="SHARE", default=None)
@click.option("--as", "form", type=click.Choice(get_args(ImportForm)), default="auto", show_default=True)
@click.option("--history", type=History(), metavar="all|none|N", default="all", show_default=True)
@click.option("--sample", type=click.IntRange(0), metavar="N", default=0)
@click.option("--seed", type=click.IntRange(0), metavar="N", default=23333, show_default=True)
@click.option("--prompt_column", default="")
@click.option("--response_column", default="")
@click.option("--encoding", default="")
@click.option("--overwrite", is_flag=True)
@click.option("--preview", is_flag=True)
@click.option("--json", is_flag=True)
@click.pass_context
def data_import(context: click.Context, /, files: tuple[str, ...], preview: bool, json: bool, **how: Any) -> None:
    """Turn FILES into training, validation and test rows."""
    from sft_tui import data_import

    if not preview and not how["train"]:
        raise click.UsageError(say("usage.train", LANG))
    how |= _test_of(context, how) | {"form": _form_of(context, how["form"])}
    if how["valid_ratio"] + how["test_ratio"] >= 1:
        raise click.UsageError(say("usage.shares", LANG))
    if preview:
        how |= dict.fromkeys(("train", "valid", "test"), "")
    with reading_progress() as progress:
        found = data_import.import_rows(list(files), progress, **how)
    if json:
        echo_json(as_json(found))
        return
    for line in data_import.lines(found, LANG):
        echo(line)


def _test_of(context: click.Context, how: Mapping[str, Any]) -> dict[str, Any]:
    """The test file to write, and its share of the rows.

    Without any output file named, all three of the preset are written, so that `sft-tui test` finds its own, and an
    existing test file from elsewhere is left untouched. Otherwise only the named files are written.
    """
    given = {name for name in ("train", "valid") if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    test, share = how["test"], how["test_ratio"]
    spare = test is None and share is None
    if test is None:
        test = "" if given and not share else TEST_FILE
    share = TEST_SHARE if share is None else share
    return {"test": test if share else "", "test_ratio": share if test else 0.0, "spare_test": spare}


def _form_of(context: click.Context, form: ImportForm) -> ImportForm:
    """The form of the rows to write: a limit on earlier turns is one on the prompts of pairs."""
    if context.get_parameter_source("history") is not ParameterSource.COMMANDLINE:
        return form
    if form == "messages":
        raise click.UsageError(say("usage.history_of_messages", LANG))
    return "pairs"


@data.command("demo")
@train_option
@valid_option
@click.option("--overwrite", is_flag=True)
def data_demo(train: str, valid: str, overwrite: bool) -> None:
    """Write the rows of chatterbot-corpus, to try things out."""
    from engine.contract.requests import DemoRequest
    from sft_tui import data_import

    found = data_import.import_rows([], what=DemoRequest, train=train, valid=valid, overwrite=overwrite)
    for line in data_import.lines(found, LANG):
        echo(line)


@data.command("tokenizer")
@click.argument("files", nargs=-1, required=True, type=HomePath(exists=True, dir_okay=False))
@click.option(
    "--output",
    type=HomePath(),
    default=preset("sft-small").config.tokenizer,
    show_default=True,
)
@click.option(
    "--vocabulary",
    type=click.IntRange(300),
    metavar="N",
    default=4000,
    show_default=True,
)
@setting_option("prompt_column")
@setting_option("response_column")
@setting_option("messages_column")
def data_tokenizer(files: tuple[str, ...], output: str, vocabulary: int, **columns: str) -> None:
    """Train a tokenizer for a new model on the rows of Parquet FILES."""
    from sft_tui import data_import

    with reading_progress() as progress:
        found = data_import.train_tokenizer(list(files), output, vocabulary, progress, **columns)
    echo(say("app.tokenizer_trained", LANG, tokens=found.tokens, texts=found.texts, output=text.safe(found.output)))


@data.command("check", cls=GroupedCommand, lang=LANG)
@file_argument
@preset_option
@row_options
@click.option("--json", is_flag=True)
def data_check(file: Path, preset_name: str, json: bool, **values: Any) -> None:
    """Check the rows of a Parquet FILE."""
    from sft_tui.preflight import report as reports
    from sft_tui.preflight.check import check_file

    with reading_progress() as progress:
        chosen = {} if preset_name == USUAL_PRESET else {"preset": preset_name}
        report = check_file(file_config(file, preset_name, values), progress, {**chosen, **given(values)})
    if json:
        echo_json(reports.to_json(report, LANG))
    else:
        for line in reports.lines(report.findings, LANG, terminal_columns()):
            echo(line)
        echo(reports.summary(report, LANG), err=True)
    sys.exit(report.exit_code)


@data.command("show", cls=GroupedCommand, lang=LANG)
@file_argument
@click.option("--row", type=click.IntRange(0), metavar="N", default=0, show_default=True)
@preset_option
@row_options
@click.option("--json", is_flag=True)
def data_show(file: Path, row: int, preset_name: str, json: bool, **values: Any) -> None:
    """Show a row as the model sees it, and what is learned of it."""
    from sft_tui import row_view

    found = row_view.inspect(file_config(file, preset_name, values), row)
    if json:
        echo_json(row_view.to_json(found))
        return
    columns = terminal_columns() or LINE
    for line in row_view.lines(found, file, row, columns, LANG):
        echo(line.text, color="green" if line.learned else "")


@data.command("edit")
@click.argument("file", type=HomePath(path_type=Path))
@click.argument("name", metavar="NAME")
@click.argument("value", metavar="[VALUE]", required=False)
@click.option("--remove", is_flag=True)
def data_edit(file: Path, name: str, value: str | None, remove: bool) -> None:
    """Set one value in a JSON file of a model or tokenizer."""
    from sft_tui import json_file

    if remove == (value is not None):
        raise click.UsageError(say("usage.edit", LANG))
    json_file.edit(file, name, None if value is None else json_file.parsed(value))
    echo(say("app.edited", LANG, path=text.safe(str(file))))
