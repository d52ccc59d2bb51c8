"""Every field of RunConfig as an option of the command line."""

import os
import shlex
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from engine.contract.config import FIELDS, KINDS, setting_of
from engine.contract.messages import InputError
from engine.contract.texts import Lang, say
from sft_tui.text import number

F = TypeVar("F", bound=Callable[..., Any])

# Names of settings, and of their values, in other scripts and libraries that people know.
ALIASES = {
    "tokenizer": ("tokenizer_dir",),
    "pretrained_model": ("finetune_from_ckp_file",),
    "learn_rate": ("learning_rate",),
}
FIELD_OF = {name: name for name in FIELDS} | {alias: name for name, others in ALIASES.items() for alias in others}
SYNONYMS = {"mixed_precision": {"no": "fp32"}}

# What decides which tokens a row becomes, and which of them are learned.
OF_ROWS = (
    "tokenizer", "max_seq_len", "prompt_column", "response_column", "messages_column", "pretrained_model", "family",
    "chat_template", "template_options", "learn", "too_long",
)  # fmt: skip

VARIABLES = "SFT_TUI_"  # what the variables of the environment that give options begin with
FOLDERS = ("output_dir", "token_store", "tokenizer")  # of the settings that are paths

# --learn-rate and --learn_rate are one option.
SETTINGS = {
    "help_option_names": ["-h", "--help"],
    "token_normalize_func": lambda name: name.replace("-", "_"),
}


def variable(name: str) -> str:
    """The environment variable of an option."""
    return f"{VARIABLES}{name.upper()}"


class SettingOption(click.Option):
    """The option of a setting; an error says so if its value is from the environment."""

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """The option as an error names it, with the variable that its value is from."""
        hint = super().get_error_hint(ctx)
        name = self.name or ""
        is_from = ctx is not None and ctx.get_parameter_source(name) == ParameterSource.ENVIRONMENT
        return f"{hint} ({variable(name)})" if is_from else hint


def config_options(lang: Lang, names: Iterable[str] = tuple(FIELDS), *, environment: bool = False) -> Callable[[F], F]:
    """A decorator that adds an option for every setting, or for those named; an option that is not given is None.

    With `environment`, a variable of the environment gives what the command line does not.
    """

    def add(function: F) -> F:
        for name in reversed(tuple(names)):
            rule = setting_of(name)
            unit = f" [{rule.unit_in(lang)}]" if rule.unit else ""
            option = click.option(
                *(f"--{spelt}" for spelt in (name, *ALIASES.get(name, ()))),
                name,
                type=Text(name) if KINDS[name] is str else Number(name, lang),
                help=rule.help(lang) + unit,
                metavar="|".join(rule.choices) or None,
                envvar=variable(name) if environment else None,
                cls=SettingOption,
            )
            function = option(function)
        return function

    return add


def parse(name: str, typed: str) -> Any:
    """Parses the value that a person typed for a setting; raises InputError."""
    kind, typed = KINDS[name], typed.strip()
    if kind is str:
        return meant(name, typed)
    example = number(FIELDS[name].default).replace("e-0", "e-")
    if not typed:
        raise InputError("setting_empty", name=name, example=example)
    try:
        return kind(typed.replace(",", ""))
    except ValueError:
        code = "setting_not_whole" if kind is int else "setting_not_number"
        raise InputError(code, name=name, typed=typed, example=example) from None


def setting_text(name: str, value: object, lang: Lang) -> str:
    """A setting's value for display: an empty value as what it means, a number that is not an amount with it."""
    meaning = setting_of(name).special(value, lang)
    if value == "" or not meaning:
        return meaning or number(value)
    return say("settings.special", lang, value=number(value), meaning=meaning)


def unit_text(name: str, value: object, lang: Lang) -> str:
    """The unit behind a setting's value, after a space; empty if it has none, or the value is not an amount."""
    unit = setting_of(name).unit_in(lang)
    return f" {unit}" if unit and value != "" and not setting_of(name).special(value, lang) else ""


def meant(name: str, typed: str) -> str:
    """The text of a setting with other names of a value replaced and `~` expanded."""
    value = SYNONYMS.get(name, {}).get(typed, typed)
    return os.path.expanduser(value) if setting_of(name).path else value


class Text(click.types.StringParamType):
    """The text of a setting on a command line."""

    def __init__(self, setting: str) -> None:
        self._setting = setting

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002
        """The choices of a setting that start so, or that the shell completes a path."""
        rule = setting_of(self._setting)
        if rule.path:
            return [CompletionItem(incomplete, type="dir" if self._setting in FOLDERS else "file")]
        return [CompletionItem(choice) for choice in rule.choices if choice.startswith(incomplete)]

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The text as `meant` returns it."""
        return meant(self._setting, super().convert(value, param, ctx))


class Number(click.types.FloatParamType):
    """The number of a setting on a command line."""

    def __init__(self, setting: str, lang: Lang) -> None:
        self._setting, self._lang = setting, lang
        self.name = "integer" if KINDS[setting] is int else "float"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number; an error says what one is such as."""
        try:
            return parse(self._setting, value) if isinstance(value, str) else value
        except InputError as error:
            self.fail(error.message.what(self._lang), param, ctx)


class HomePath(click.Path):
    """A path on a command line; a shell does not expand the `~` of `--logs=~/x`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path, with the home folder in place of `~`."""
        return super().convert(os.path.expanduser(value), param, ctx)


class SourcePath(HomePath):
    """The path of a file, or a quoted pattern for several."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path or pattern."""
        pattern = any(char in value for char in "*?[") and not os.path.exists(os.path.expanduser(value))
        return os.path.expanduser(value) if pattern else super().convert(value, param, ctx)


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that were given among a command's arguments."""
    return {name: values[name] for name in FIELDS if values.get(name) is not None}


def from_environment(context: click.Context) -> list[str]:
    """The settings whose values the environment gave."""
    return [name for name in FIELDS if context.get_parameter_source(name) == ParameterSource.ENVIRONMENT]


class GroupedCommand(click.Command):
    """A command whose help lists the settings by group."""

    def __init__(self, *args: Any, lang: Lang = "en", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lang = lang

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes one section per group, the command's own options first."""
        own = say("app.options", self._lang)
        sections: dict[str, list[tuple[str, str]]] = {own: []}
        for parameter in self.get_params(ctx):
            row = parameter.get_help_record(ctx)
            if row is not None and not isinstance(parameter, click.Argument):
                name = parameter.name or ""
                title = say(f"group.{setting_of(name).group}", self._lang) if name in FIELDS else own
                sections.setdefault(title, []).append(row)
        for title, rows in sections.items():
            with formatter.section(title):
                formatter.write_dl(rows)


def settings_table(config: Any, lang: Lang) -> list[str]:
    """A table of all settings with value, unit and meaning, by group."""
    rows: list[str] = []
    group = ""
    width = max(map(len, FIELDS))
    for name in FIELDS:
        rule = setting_of(name)
        if rule.group != group:
            group = rule.group
            rows += ["", say(f"group.{group}", lang)]
        value = getattr(config, name)
        shown = setting_text(name, value, lang) + unit_text(name, value, lang)
        rows.append(f"  {name:<{width}}  {shown:<42}  {rule.help(lang)}".rstrip())
    return rows[1:]


def options(values: Mapping[str, Any]) -> list[str]:
    """Settings as a list of command-line arguments."""
    return [word for name, value in values.items() for word in (f"--{name}", str(value))]


def options_text(values: Mapping[str, Any]) -> str:
    """Settings as text for a command line, each with a space before it."""
    return "".join(f" {shlex.quote(word)}" for word in options(values))
