"""The command that says what lies in the working folder, and what to do next."""

from pathlib import Path

import click

from sft_tui.cli.common import LANG, logs_option
from sft_tui.output import echo, echo_json, terminal_columns


@click.command()
@click.option("--json", is_flag=True)
@logs_option
def here(json: bool, logs: Path) -> None:
    """List what lies here, and the next steps."""
    from sft_tui import here_text
    from sft_tui.found import Found
    from sft_tui.here import scan
    from sft_tui.next_steps import next_steps

    found = Found()
    for seen in scan(logs):
        found = seen
    steps = next_steps(found)
    if json:
        echo_json(here_text.to_json(found, steps), indent=1)
        return
    for line in here_text.lines(found, steps, terminal_columns(), LANG):
        echo(line)
