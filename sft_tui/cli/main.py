"""The command line: thin commands over the functions that do the work."""

import importlib.metadata
import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from engine.contract.messages import InputError
from engine.contract.texts import say
from sft_tui import preconditions
from sft_tui.cli import showing, usage
from sft_tui.cli.chat_command import chat
from sft_tui.cli.check_commands import check_command, rehearse
from sft_tui.cli.common import LANG, logs_option, print_error, report_outdated_texts, screen_options
from sft_tui.cli.compare_command import compare
from sft_tui.cli.completion_command import completion
from sft_tui.cli.data_commands import data
from sft_tui.cli.here_command import here
from sft_tui.cli.model_commands import model
from sft_tui.cli.notify_command import notify
from sft_tui.cli.prepare_command import prepare
from sft_tui.cli.preset_commands import presets
from sft_tui.cli.queue_commands import queue
from sft_tui.cli.reply_command import reply
from sft_tui.cli.row_commands import rows_command
from sft_tui.cli.run_commands import attach, note, pause, runs, show_logs, status, stop
from sft_tui.cli.serve_command import serve
from sft_tui.cli.starting_commands import continue_, demo, resume, run, test
from sft_tui.options import SETTINGS
from sft_tui.output import Group

COMMANDS: tuple[click.Command, ...] = (
    here,
    check_command,
    completion,
    rehearse,
    run,
    prepare,
    test,
    runs,
    compare,
    status,
    note,
    attach,
    show_logs,
    stop,
    pause,
    continue_,
    resume,
    demo,
    presets,
    data,
    model,
    notify,
    queue,
    reply,
    rows_command,
    chat,
    serve,
)


def main() -> None:
    """Runs the command line; exits with 0 (done), 1 (failed), 2 (wrong usage or input) or 3 (refused because busy)."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal without a character shows its code
    report_outdated_texts()
    try:
        with preconditions.report_unwritable_output(LANG):
            cli(prog_name="sft-tui")
    except InputError as error:
        print_error(error, LANG)
        sys.exit(error.exit_code)


@click.group(cls=Group, context_settings=SETTINGS, invoke_without_command=True)
@click.version_option(importlib.metadata.version("sft-tui"), prog_name="sft-tui")
@logs_option
@screen_options
def cli(logs: Path, **screen: Any) -> None:
    """Fine-tune small chat models on small machines, from a terminal."""
    preconditions.require_working_folder()
    context = click.get_current_context()
    if context.invoked_subcommand is None:
        sys.exit(showing.show_screen(logs, **screen))
    given = [name for name in context.params if context.get_parameter_source(name) == ParameterSource.COMMANDLINE]
    if given:
        option = "--ascii" if given[0] == "ascii_only" else f"--{given[0].replace('_', '-')}"
        name = context.invoked_subcommand
        known = any(option in parameter.opts for parameter in cli.commands[name].params)
        key = "usage.screen" if known else "usage.screen_only"
        raise click.UsageError(say(key, LANG, option=option, command=name))


for command in COMMANDS:
    cli.add_command(command)

usage.translate(cli, LANG)
