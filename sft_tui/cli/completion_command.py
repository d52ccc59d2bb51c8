"""The command that prints what a shell needs to complete the others."""

import click
from click.shell_completion import get_completion_class

from sft_tui.output import echo

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_SFT_TUI_COMPLETE"  # by which a shell asks


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the script that completes commands in a SHELL."""
    found = get_completion_class(shell)
    if found is not None:
        group = click.get_current_context().find_root().command
        echo(found(group, {}, "sft-tui", VARIABLE).source())
