"""What the commands share: their language, common options, and the progress of reading files."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from engine.contract.texts import Lang, language, say
from sft_tui.options import HomePath
from sft_tui.output import echo_over

if TYPE_CHECKING:
    from sft_tui.preflight.ask_engine import Progress

LANG: Lang = language()
THEMES = ("auto", "dark", "light", "16", "none")
Command = TypeVar("Command", bound=Callable[..., Any])


def screen_options(function: Command) -> Command:
    """A decorator that adds the options of the screen."""
    for option in (
        click.option("--slow-link", is_flag=True, help="Redraw less often, for slow connections."),
        click.option("--ascii", "ascii_only", is_flag=True, help="Draw with ASCII characters only."),
        click.option("--theme", type=click.Choice(THEMES), default="auto", show_default=True, help="Colours."),
        click.option("--lang", type=click.Choice(["en", "zh"]), default=None, help="Language of the screen."),
    ):
        function = option(function)
    return function


NO_UI = "Follow the run as text: bars on a terminal, plain lines elsewhere."
JSON = "Print the run's events, one JSON object a line."
DETACH = "Start it, print its name, and return at once."
OF_RUN = "Take the best model of RUN, wherever it is now."
LOGS = "Folder of the runs' logs."

logs_option = click.option("--logs", type=HomePath(path_type=Path), default=Path("logs"), show_default=True, help=LOGS)
json_option = click.option("--json", is_flag=True, help=JSON)
detach_option = click.option("--detach", is_flag=True, help=DETACH)
no_ui_option = click.option("--no-ui", is_flag=True, help=NO_UI)


def complete_run(context: click.Context, _parameter: click.Parameter, typed: str) -> list[str]:
    """The names of runs for shell completion, newest first."""
    from sft_tui.runs import names

    return [name for name in names(Path(context.params.get("logs") or "logs")) if name.startswith(typed)]


run_argument = click.argument("name", metavar="[RUN]", required=False, shell_complete=complete_run)
run_option = click.option(
    "--run",
    "of_run",
    metavar="RUN",
    shell_complete=complete_run,
    help=OF_RUN,
)


@contextlib.contextmanager
def reading_progress() -> "Iterator[Progress]":
    """Shows the progress of reading on standard error, on one line, only if that is a terminal."""
    from sft_tui.preflight.report import subject

    shown = False

    def show_progress(setting: str, done: int, total: int) -> None:
        nonlocal shown
        if total and sys.stderr.isatty():
            shown = True
            line = say("app.reading", LANG, what=subject(setting, LANG), done=done, total=total)
            echo_over(line)

    yield show_progress
    if shown:
        echo_over()
