"""The commands for the queue of runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from engine.contract.bounds import as_json
from engine.contract.texts import say
from sft_tui import text
from sft_tui.cli.common import LANG, logs_option, preset_argument, report_environment
from sft_tui.options import GroupedCommand, config_options, given
from sft_tui.output import echo, echo_json, terminal_columns

if TYPE_CHECKING:
    from sft_tui.queue.queue_file import QueueFolder


def folder_of(logs: Path) -> "QueueFolder":
    """The queue of a folder of logs."""
    from sft_tui.queue.queue_file import QueueFolder

    return QueueFolder(logs)


def complete_number(context: click.Context, _parameter: click.Parameter, typed: str) -> list[str]:
    """The numbers of entries for shell completion."""
    found, _ = folder_of(Path(context.params.get("logs") or "logs")).look()
    return [str(entry.number) for entry in found.entries if str(entry.number).startswith(typed)]


@click.group("queue", invoke_without_command=True)
@click.option("--json", is_flag=True)
@logs_option
@click.pass_context
def queue(context: click.Context, json: bool, logs: Path) -> None:
    """List the queue of runs, or change it."""
    command = context.invoked_subcommand
    if command is None:
        list_queue(logs, json=json)
        return
    for name in ("json", "logs"):
        if context.get_parameter_source(name) == ParameterSource.COMMANDLINE:
            raise click.UsageError(say("usage.queue", LANG, option=f"--{name}", command=command))


def list_queue(logs: Path, *, json: bool) -> None:
    """Prints the queue, and on standard error what is wrong with it; starts its process if that was killed."""
    from sft_tui.queue import lines, queue_process

    folder = folder_of(logs)
    found, wrong = queue_process.settled(folder)
    for message in wrong:
        echo(say("app.error", LANG, text=text.safe(message.text(LANG))), err=True)
    if queue_process.ensure(folder, found):
        echo(say("queue.restarted", LANG), err=True)
    if json:
        echo_json({**as_json(found), "alive": folder.runs}, indent=1)
        return
    for line in lines.table(found, LANG, terminal_columns()):
        echo(line)
    echo(lines.state(found, LANG), err=True)


@queue.command("add", cls=GroupedCommand, lang=LANG)
@preset_argument
@logs_option
@config_options(LANG, environment=True)
def add(preset_name: str, logs: Path, **settings: Any) -> None:
    """Put a run with a PRESET at the end of the queue."""
    from sft_tui.queue import lines, queue_process

    folder = folder_of(logs)
    report_environment()
    number = queue_process.add(folder, preset_name, given(settings))
    echo(str(number))
    echo(lines.state(folder.read(), LANG), err=True)


@queue.command("remove")
@click.argument("number", type=int, shell_complete=complete_number)
@logs_option
def remove(number: int, logs: Path) -> None:
    """Take the entry with this NUMBER out of the queue."""
    from sft_tui.queue import entries

    folder_of(logs).change(entries.removed, number)
    echo(say("queue.removed", LANG, number=number), err=True)


@queue.command("move")
@click.argument("number", type=int, shell_complete=complete_number)
@click.argument("place", type=click.IntRange(1))
@logs_option
def move(number: int, place: int, logs: Path) -> None:
    """Move a waiting entry to a PLACE; 1 is the next to start."""
    from sft_tui.queue import entries

    found = folder_of(logs).change(entries.moved, number, place)
    echo(say("queue.moved", LANG, number=number, place=entries.place_of(found, number)), err=True)


@queue.command("pause")
@logs_option
def pause(logs: Path) -> None:
    """Start no further run; the one that runs continues."""
    from sft_tui.queue import entries, lines

    echo(lines.state(folder_of(logs).change(entries.with_pause), LANG), err=True)


@queue.command("resume")
@logs_option
def resume(logs: Path) -> None:
    """Continue a paused queue."""
    from sft_tui.queue import lines, queue_process

    echo(lines.state(queue_process.resume(folder_of(logs)), LANG), err=True)
