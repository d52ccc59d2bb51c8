"""The typed actions that fix a finding: a terminal prints them as commands, the screen carries them out.

Commands are never parsed back: a path may contain spaces, quotes, ` && ` or line ends.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.contract.config import setting_of
from engine.contract.presets import preset
from engine.contract.texts import Lang, say
from sft_tui.options import options, setting_text
from sft_tui.text import safe

PROGRAM = "sft-tui"
DEFAULTS = preset("sft-small").config  # also the defaults of the options of `data`


@dataclass(frozen=True)
class Set:
    """Check again with other settings: `changes` override the given `values`, which override the preset's."""

    preset: str
    values: Mapping[str, Any]
    changes: Mapping[str, Any]
    logs: str = ""  # another folder of logs; empty: the same

    @property
    def argv(self) -> tuple[str, ...]:
        """The command as a list of words."""
        logs = ("--logs", self.logs) if self.logs else ()
        return (PROGRAM, "check", self.preset, *options({**self.values, **self.changes}), *logs)

    def words(self, lang: Lang) -> str:
        """Its description, for a question."""
        base = preset(self.preset).config
        changes = {name: (self.values.get(name, getattr(base, name)), new) for name, new in self.changes.items()}
        pairs = [(name, *pair) for name, pair in changes.items() if pair[0] != pair[1]]
        shown = [f"{name} {_value(name, old, lang)} → {_value(name, new, lang)}" for name, old, new in pairs]
        return say("fix.set", lang, changes=", ".join(shown)) if shown else say("fix.check", lang)


@dataclass(frozen=True)
class Import:
    """Import training and validation rows from other files, never replacing any; or show what would be imported."""

    files: Sequence[str]
    train: str = ""
    valid: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)  # further options of `data import`
    preview: bool = False

    @property
    def argv(self) -> tuple[str, ...]:
        """The command as a list of words."""
        written = ["--preview"] if self.preview else targets(train=self.train, valid=self.valid)
        return (PROGRAM, "data", "import", *map(as_path, self.files), *written, *options(self.more))

    def words(self, lang: Lang) -> str:
        """Its description, for a question."""
        files, written = (
            [safe(path, 80) for path in paths if path] for paths in (self.files, (self.train, self.valid))
        )
        if self.preview:
            return say("fix.preview", lang, files=", ".join(files))
        return say("fix.import", lang, files=", ".join(files), targets=", ".join(written))


@dataclass(frozen=True)
class Edit:
    """Set a value in a JSON file of a model or a tokenizer, or remove it if `value` is None."""

    path: str
    name: str
    value: int | str | None

    @property
    def argv(self) -> tuple[str, ...]:
        """The command as a list of words."""
        value = () if self.value is None else (json.dumps(self.value, ensure_ascii=False),)
        return (PROGRAM, "data", "edit", as_path(self.path), *(() if value else ("--remove",)), self.name, *value)

    def words(self, lang: Lang) -> str:
        """Its description, for a question."""
        what = {"path": safe(self.path, 80), "name": safe(self.name, 40)}
        if self.value is None:
            return say("fix.remove", lang, **what)
        return say("fix.edit", lang, **what, value=safe(str(self.value), 40))


@dataclass(frozen=True)
class Open:
    """Open a run."""

    run: str

    @property
    def argv(self) -> tuple[str, ...]:
        """The command as a list of words."""
        return (PROGRAM, "attach", as_path(self.run))

    def words(self, lang: Lang) -> str:
        """Its description, for a question."""
        return say("fix.open", lang, run=safe(self.run, 40))


@dataclass(frozen=True)
class Resume:
    """Resume an interrupted run."""

    run: str

    @property
    def argv(self) -> tuple[str, ...]:
        """The command as a list of words."""
        return (PROGRAM, "resume", as_path(self.run))

    def words(self, lang: Lang) -> str:
        """Its description, for a question."""
        return say("fix.resume", lang, run=safe(self.run, 40))


@dataclass(frozen=True)
class Start:
    """Start a run of a preset with `values` over its settings."""

    preset: str
    values: Mapping[str, Any] = field(default_factory=dict)
    fresh: bool = False  # move what an unfinished run left in its folder aside

    @property
    def argv(self) -> tuple[str, ...]:
        """The command as a list of words."""
        return (PROGRAM, "run", self.preset, *options(self.values), *(("--fresh",) if self.fresh else ()))

    def words(self, lang: Lang) -> str:
        """Its description, for a question."""
        return say("fix.start_fresh" if self.fresh else "fix.start", lang, preset=self.preset)


@dataclass(frozen=True)
class Command:
    """Another command of this program; `arguments` are those after the program's name."""

    arguments: tuple[str, ...]

    @property
    def argv(self) -> tuple[str, ...]:
        """The command as a list of words."""
        return (PROGRAM, *self.arguments)

    def words(self, lang: Lang) -> str:
        """Its description, for a question."""
        return say("fix.command", lang, command=safe(shlex.join(self.argv), 200))


@dataclass(frozen=True)
class System:
    """A system command, for a person to run."""

    argv: tuple[str, ...]

    def words(self, lang: Lang) -> str:
        """Its description, for a question."""
        return say("fix.command", lang, command=safe(shlex.join(self.argv), 200))


Action = Set | Import | Edit | Open | Resume | Start | Command | System


def _value(name: str, value: object, lang: Lang) -> str:
    """A value as shown in a question; an empty one is made visible."""
    return setting_text(name, value, lang) if value != "" or setting_of(name).empty() else "''"


def as_path(name: str) -> str:
    """A file name as an argument of a command: one that looks like an option gets its folder in front."""
    return f"./{name}" if name.startswith("-") else name


def targets(**paths: str) -> list[str]:
    """Options of `data` for the files to write, without those that equal the defaults."""
    usual = {"train": DEFAULTS.train_file, "valid": DEFAULTS.validation_file, "output": DEFAULTS.tokenizer}
    return options({name: path for name, path in paths.items() if path != usual[name]})


def command_of(actions: Sequence[Action]) -> str:
    """The actions as one shell command line."""
    return " && ".join(shlex.join(action.argv) for action in actions)
