"""What the commands share: their language, common options, and the progress of reading files."""

import contextlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from engine.contract.messages import InputError
from engine.contract.texts import LANGS, Lang, fault, language, say
from sft_tui import text
from sft_tui.options import HomePath, from_environment, given, variable
from sft_tui.output import echo, echo_over

if TYPE_CHECKING:
    from sft_tui.preflight.ask_engine import Progress

LANG: Lang = language()
PLAIN = re.compile(r"\w[\w.-]*")  # a folder that somebody else made may be called `$(command)`
THEMES = ("auto", "dark", "light", "16", "none")
Command = TypeVar("Command", bound=Callable[..., Any])


def report_outdated_texts() -> None:
    """Prints on standard error that the catalogues were not compiled, or before they were edited."""
    if outdated := fault(LANG):
        echo(outdated, err=True)


def screen_options(function: Command) -> Command:
    """A decorator that adds the options of the screen."""
    for option in (
        click.option("--slow-link", is_flag=True, envvar=variable("slow_link")),
        click.option("--ascii", "ascii_only", is_flag=True, envvar=variable("ascii")),
        click.option("--theme", type=click.Choice(THEMES), default="auto", show_default=True, envvar=variable("theme")),
        click.option("--lang", type=click.Choice(LANGS), default=None, envvar=variable("lang")),
    ):
        function = option(function)
    return function


logs_option = click.option(
    "--logs", type=HomePath(path_type=Path), default=Path("logs"), show_default=True, envvar=variable("logs")
)
json_option = click.option("--json", is_flag=True)
detach_option = click.option("--detach", is_flag=True)
no_ui_option = click.option("--no-ui", is_flag=True)


def complete_run(context: click.Context, _parameter: click.Parameter, typed: str) -> list[str]:
    """The names of runs for shell completion, newest first; without names that the shell would interpret."""
    from sft_tui.runs import names

    known = names(Path(context.params.get("logs") or "logs"))
    return [name for name in known if name.startswith(typed) and PLAIN.fullmatch(name)]


def complete_model(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """The runs whose models can be talked to, for shell completion, and folders as the shell completes them."""
    found = [CompletionItem(name) for name in complete_run(context, parameter, typed)]
    return [CompletionItem(typed, type="dir"), *found]


def complete_preset(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """The presets for shell completion, each with what it is for if the shell shows that."""
    from engine.contract.presets import built_in, own_files

    known = {name: entry.summary(LANG) for name, entry in built_in().items()}
    known |= {name: text.safe(str(file), 60) for name, file in own_files().items()}
    return [CompletionItem(name, help=words) for name, words in known.items() if name.startswith(typed)]


def report_environment() -> None:
    """Prints on standard error which settings are from the environment."""
    context = click.get_current_context()
    found = [f"{name} = {text.number(context.params[name])} ({variable(name)})" for name in from_environment(context)]
    if found:
        echo(say("app.from_environment", LANG, settings=text.safe(", ".join(found))), err=True)


def of_command_line(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings given on the command line alone: what a run was started with outweighs the environment."""
    others = from_environment(click.get_current_context())
    return {name: value for name, value in given(settings).items() if name not in others}


preset_argument = click.argument("preset_name", metavar="PRESET", shell_complete=complete_preset)
run_argument = click.argument("name", metavar="[RUN]", required=False, shell_complete=complete_run)
run_option = click.option(
    "--run",
    "of_run",
    metavar="RUN",
    shell_complete=complete_run,
)


@contextlib.contextmanager
def reading_progress() -> "Iterator[Progress]":
    """Shows the progress of reading on standard error, on one line, only if that is a terminal."""
    from sft_tui.preflight.report import subject

    shown = False

    def show_progress(setting: str, done: int, total: int) -> None:
        nonlocal shown
        if total:
            shown = True
            echo_over(say("app.reading", LANG, what=subject(setting, LANG), done=done, total=total))

    yield show_progress
    if shown:
        echo_over()


@contextlib.contextmanager
def meanwhile(line: str) -> "Iterator[None]":
    """Shows a line on standard error for as long as the block takes, only if that is a terminal."""
    echo_over(line)
    try:
        yield
    finally:
        echo_over()


@contextlib.contextmanager
def step_progress(lang: Lang) -> "Iterator[Progress]":
    """Names the step of a conversion on standard error: on one line of a terminal, else each on its own."""
    shown = ""

    def show(step: str, done: int, total: int) -> None:
        nonlocal shown
        if total and step != shown:
            shown = step
            line = say(f"model.step.{step}", lang, done=done + 1, total=total)
            echo_over(line) if sys.stderr.isatty() else echo(line, err=True)

    yield show
    if shown:
        echo_over()


def print_error(error: InputError, lang: Lang) -> None:
    """Prints an error and its fix on standard error."""
    echo(say("app.error", lang, text=text.safe(error.message.what(lang))), err=True)
    fix = error.message.fix(lang)
    if fix:
        echo(say("app.fix", lang, text=text.safe(fix)), err=True)
