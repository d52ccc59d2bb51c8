"""The command that opens the screen on a chat."""

import sys
from pathlib import Path
from typing import Any

import click

from sft_tui.cli.common import complete_model, logs_option, screen_options
from sft_tui.cli.showing import show_screen


@click.command()
@click.argument("name", metavar="[MODEL|RUN]", required=False, shell_complete=complete_model)
@click.option("--with", "base", metavar="MODEL", default=None, shell_complete=complete_model)
@logs_option
@screen_options
def chat(name: str | None, base: str | None, logs: Path, **screen: Any) -> None:
    """Chat with a model, next to the one it was tuned from."""
    from sft_tui import chat_names

    models, run = chat_names.chosen(name, base, logs)
    sys.exit(show_screen(logs, run=run, chat=models, **screen))
