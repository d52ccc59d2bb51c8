"""The only way text and JSON are printed: without anything that a terminal would interpret."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

import click
from click.exceptions import NoArgsIsHelpError

from engine.contract.events import without_non_finite
from engine.contract.harmless import harmless
from sft_tui.text import cut, escaped

CLEAR_REST = "\x1b[K"


def echo(text: str = "", *, err: bool = False, color: str = "") -> None:
    """Prints lines on standard output, or on standard error; in a colour if a terminal shows them and may."""
    shown = harmless(text)
    click.echo(click.style(shown, fg=color) if color and not os.environ.get("NO_COLOR") else shown, err=err)


def terminal_columns(*, err: bool = False) -> int:
    """Columns of the terminal that standard output (or standard error) is, 0 if it is none."""
    stream = sys.stderr if err else sys.stdout
    return shutil.get_terminal_size().columns if stream.isatty() else 0


def echo_piece(text: str) -> None:
    """Prints a part of a line or of several on standard output, at once."""
    click.echo(harmless(text), nl=False)


def echo_json(value: Any, *, indent: int | None = None) -> None:
    """Prints a value as JSON, with texts for NaN and infinities, and escapes what a terminal would interpret."""
    click.echo(escaped(json.dumps(without_non_finite(value), ensure_ascii=False, allow_nan=False, indent=indent)))


def echo_over(text: str = "") -> None:
    """Overwrites the current line of the terminal that standard error is, within its width; without a text, clears it.

    Does nothing if standard error is not a terminal.
    """
    if columns := terminal_columns(err=True):
        click.echo(f"\r{cut(harmless(text), columns - 1)}{CLEAR_REST}", nl=False, err=True)


def write_line(text: str, file: IO[str]) -> None:
    """Prints lines to a file and flushes it."""
    print(harmless(text), file=file, flush=True)


class Group(click.Group):
    """A group of commands that prints errors, which repeat what was typed, made harmless and in `wording`."""

    wording: Callable[[str], str] = staticmethod(str)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Makes the context of the whole command line; raises ClickException."""
        with _harmless_errors(self.wording):
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command that was chosen; raises ClickException."""
        with _harmless_errors(self.wording):
            return super().invoke(ctx)


@contextmanager
def _harmless_errors(wording: Callable[[str], str]) -> Iterator[None]:
    try:
        yield
    except NoArgsIsHelpError:  # its message is the help, with nothing that was typed
        raise
    except click.UsageError as error:
        raise click.UsageError(harmless(wording(error.format_message())), error.ctx) from None
    except click.ClickException as error:
        raise click.ClickException(harmless(wording(error.format_message()))) from None
