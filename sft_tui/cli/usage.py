"""The words of the command line in the user's language: help of commands and options, and click's own messages.

A command's help is `help.<command>` in the catalogue, that of an option `help.<command>.--<option>`, or
`help.--<option>` if several commands have it. Click asks gettext for its own messages, which are in
`locale/<language>/LC_MESSAGES/click.po`.
"""

import gettext
import os
import re
from collections.abc import Iterable

import click

from engine.contract.texts import LOCALE, Lang, named, say, template
from sft_tui.output import Group
from sft_tui.text import pad, width

CLICK = "click"  # the domain of click's own messages


def translate(command: click.Command, lang: Lang, path: tuple[str, ...] = ()) -> None:
    """Gives a command and all below it their help in `lang`, and lets click speak that language."""
    if gettext.find(CLICK, LOCALE, [lang]):
        os.environ["LANGUAGE"] = lang  # which gettext asks first
        gettext.bindtextdomain(CLICK, LOCALE)
        gettext.textdomain(CLICK)
        _lay_out_by_width(command, lang)
    if isinstance(command, Group):
        command.wording = lambda message: punctuated(message, lang)
    _translate(command, lang, path)


def _translate(command: click.Command, lang: Lang, path: tuple[str, ...]) -> None:
    key = ".".join(("help", *path))
    command.help = template(key, lang)
    command.options_metavar = named("place", command.options_metavar or "", lang)
    for parameter in command.params:
        _translate_parameter(parameter, key, lang)
    if isinstance(command, click.Group):
        command.subcommand_metavar = named("place", command.subcommand_metavar, lang)
        for name, below in command.commands.items():
            _translate(below, lang, (*path, name))


def _translate_parameter(parameter: click.Parameter, key: str, lang: Lang) -> None:
    place = parameter.metavar or (parameter.name or "").upper() * isinstance(parameter, click.Argument)
    parameter.metavar = template(f"place.{place}", lang) or parameter.metavar
    parameter.type.name = named("kind", parameter.type.name, lang)
    if isinstance(parameter, click.Option):
        option = next(name for name in parameter.opts if name.startswith("--"))
        found = template(f"{key}.{option}", lang) or template(f"help.{option}", lang)
        parameter.help = found or parameter.help  # a setting has its help already, with its unit


def punctuated(message: str, lang: Lang) -> str:
    """An error of click with the marks of `lang`: click adds English ones around translated parts."""
    stopped = re.sub(r"\.(?=$| )", say("sentence.stop", lang), message)
    return re.sub(r"(?<=['\"]), (?=['\"])", say("list.separator", lang), re.sub(r"(?<=[。？]) ", "", stopped))


class WidthFormatter(click.HelpFormatter):
    """Lays out help by the columns that characters take on a terminal; a Chinese one takes two."""

    lang: Lang = "en"

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        """Writes the usage line."""
        super().write_usage(prog, args, prefix or gettext.gettext("Usage:"))

    def write_heading(self, heading: str) -> None:
        """Writes a heading."""
        self.write(f"{'':>{self.current_indent}}{say('help.heading', self.lang, heading=heading)}\n")

    def write_text(self, text: str) -> None:
        """Writes paragraphs."""
        for place, paragraph in enumerate(text.split("\n\n")):
            self.write("\n" * (place > 0))
            for line in _wrapped(" ".join(paragraph.split()), self.width - self.current_indent):
                self.write(f"{'':>{self.current_indent}}{line}\n")

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Writes terms and their meanings in two columns."""
        terms = list(rows)
        column = min(max(width(term) for term, _ in terms), col_max) + col_spacing
        separator = say("help.extra_separator", self.lang)
        for term, meaning in terms:
            shown = re.sub(r"(  \[[^]]*); ", rf"\1{separator}", meaning)  # between a default and a range
            lines = _wrapped(shown, max(self.width - column - 2, 10))
            head = pad(term, column) if width(term) <= column - col_spacing else term
            rest = lines if head == term and meaning else lines[1:]
            first = f"{head}{lines[0]}" if rest is not lines else head
            self.write(f"{'':>{self.current_indent}}{first}".rstrip() + "\n")
            for line in rest:
                self.write(f"{'':>{self.current_indent + column}}{line}\n")


def _wrapped(text: str, room: int) -> list[str]:
    from sft_tui.wrapping import wrap  # which loads rich: not for help in English

    return wrap(text, room)


def _lay_out_by_width(command: click.Command, language: Lang) -> None:
    class Formatter(WidthFormatter):
        lang = language

    class Context(click.Context):
        formatter_class = Formatter

    _use(Context, command)


def _use(context: type[click.Context], command: click.Command) -> None:
    command.context_class = context
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        _use(context, below)
