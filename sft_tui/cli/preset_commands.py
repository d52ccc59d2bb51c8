"""The commands for presets: those that come with the program, and the user's own."""

from pathlib import Path
from typing import Any

import click

from engine.contract.config import to_json
from engine.contract.messages import InputError
from engine.contract.presets import HERE, built_in, own_files, preset, remove, save, to_toml, user_folder
from engine.contract.texts import say
from sft_tui import text
from sft_tui.cli.common import LANG, complete_preset
from sft_tui.options import GroupedCommand, config_options, given, settings_table
from sft_tui.output import echo, echo_json

HELP_LENGTH = 200


@click.group(invoke_without_command=True)
@click.pass_context
def presets(context: click.Context) -> None:
    """List the presets."""
    if context.invoked_subcommand is None:
        list_presets()


@presets.command("list")
def list_presets_command() -> None:
    """List the presets."""
    list_presets()


def list_presets() -> None:
    """Prints one line per preset, and on standard error the problems of user presets that cannot be read."""
    own = own_files()
    width = max(map(len, [*built_in(), *own]))
    for entry in built_in().values():
        echo(f"{entry.name:<{width}}  {entry.summary(LANG)}")
    for name, file in own.items():
        try:
            entry = preset(name)
            echo(f"{name:<{width}}  {text.safe(entry.summary(LANG), HELP_LENGTH)} ({text.safe(str(file))})")
        except InputError as error:
            echo(say("app.error", LANG, text=text.safe(error.message.what(LANG))), err=True)
    echo(say("app.presets_hint", LANG), err=True)


@presets.command("show")
@click.argument("name", shell_complete=complete_preset)
@click.option("--json", is_flag=True)
@click.option("--toml", is_flag=True)
def show_preset(name: str, json: bool, toml: bool) -> None:
    """Show every value of a preset."""
    entry = preset(name)
    if toml:
        echo(to_toml(entry.parent, entry.changes(), entry.help if entry.file else entry.summary(LANG)).rstrip("\n"))
        return
    if json:
        echo_json(to_json(entry.config), indent=1)
        return
    echo(f"{text.safe(entry.name)}: {text.safe(entry.summary(LANG), HELP_LENGTH)}\n")
    for line in settings_table(entry.config, LANG):
        echo(line)
    config = entry.config
    rates = {"start": config.learn_rate, "peak": config.peak_learn_rate(), "factor": config.div_factor}
    echo("\n" + say("app.peak_rate", LANG, warmup=config.warmup_steps, **rates))


@presets.command("save", cls=GroupedCommand, lang=LANG)
@click.argument("name")
@click.option(
    "--from", "parent", metavar="PRESET", default="sft-small", show_default=True, shell_complete=complete_preset
)
@click.option("--help-text", "words", metavar="TEXT", default="")
@click.option("--user", is_flag=True)
@click.option("--overwrite", is_flag=True)
@config_options(LANG)
def save_preset(name: str, parent: str, words: str, user: bool, overwrite: bool, **settings: Any) -> None:
    """Save settings as a preset of your own."""
    folder: Path = user_folder() if user else HERE
    path = save(name, parent, given(settings), folder, words=words, replaces=overwrite)
    echo(say("app.preset_saved", LANG, path=text.safe(str(path)), name=name))


@presets.command("remove")
@click.argument("name")
def remove_preset(name: str) -> None:
    """Remove a preset of your own."""
    path = remove(name)
    echo(say("app.preset_removed", LANG, path=text.safe(str(path))))
