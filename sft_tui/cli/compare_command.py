"""The command that compares runs."""

from pathlib import Path

import click

from engine.contract.texts import say
from sft_tui.cli.common import LANG, complete_run, logs_option
from sft_tui.output import echo, echo_json, terminal_columns


@click.command()
@click.argument("names", metavar="RUN RUN...", nargs=-1, required=True, shell_complete=complete_run)
@click.option("--all", "whole", is_flag=True)
@click.option("--json", is_flag=True)
@logs_option
def compare(names: tuple[str, ...], whole: bool, json: bool, logs: Path) -> None:
    """Compare runs: scores, settings, replies."""
    from sft_tui import compared_text, lineage
    from sft_tui import runs as known

    if len(set(names)) < 2:
        raise click.UsageError(say("usage.compare", LANG))
    compared = [known.read_run(known.find(logs, name)) for name in dict.fromkeys(names)]
    others = [one for one in known.all_runs(logs) if one.name not in {run.name for run in compared}]
    linked = lineage.links([*compared, *others])
    if json:
        echo_json(compared_text.as_json(compared, linked), indent=1)
        return
    for line in compared_text.lines(compared, linked, LANG, terminal_columns(), whole=whole):
        echo(line)
