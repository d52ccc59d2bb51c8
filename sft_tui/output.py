"""The one way text and JSON are printed: with nothing in them that a terminal would obey."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

import click
from click.exceptions import NoArgsIsHelpError

from engine.contract.events import without_non_finite
from engine.contract.harmless import harmless
from sft_tui.text import escaped

CLEAR_REST = "\x1b[K"


def echo(text: str = "", *, err: bool = False) -> None:
    """Prints lines on standard output, or on standard error."""
    click.echo(harmless(text), err=err)


def echo_json(value: Any, *, indent: int | None = None) -> None:
    """Prints a value as JSON, which has texts for NaN and infinities; what a terminal would obey is escaped in it."""
    click.echo(escaped(json.dumps(without_non_finite(value), ensure_ascii=False, allow_nan=False, indent=indent)))


def echo_over(text: str = "") -> None:
    """Writes over the line that a terminal's cursor is on; without a text, clears it."""
    click.echo(f"\r{harmless(text)}{CLEAR_REST}", nl=False, err=True)


def write_line(text: str, file: IO[str]) -> None:
    """Prints lines to a file at once."""
    print(harmless(text), file=file, flush=True)


class Group(click.Group):
    """A group of commands whose errors, which repeat what was typed, are printed harmless, in `wording`."""

    wording: Callable[[str], str] = staticmethod(str)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """The context of the whole command line; raises ClickException."""
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
    except NoArgsIsHelpError:  # whose message is the help: nothing that was typed
        raise
    except click.UsageError as error:
        raise click.UsageError(harmless(wording(error.format_message())), error.ctx) from None
    except click.ClickException as error:
        raise click.ClickException(harmless(wording(error.format_message()))) from None
