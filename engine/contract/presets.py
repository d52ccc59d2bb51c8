"""Presets in TOML: built-in ones and the user's own; each names its parent and how it differs from it.

The user's own are one per file, named after the file: in `presets/` of the current folder, or in that of the user's
configuration (`$XDG_CONFIG_HOME/sft-tui/presets`). They are read as untrusted input.
"""

import difflib
import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from engine.contract.config import FIELDS, RunConfig, check, check_kind, to_json
from engine.contract.files import read_linked, reason, staged
from engine.contract.messages import InputError
from engine.contract.texts import Lang, Phrase, say, template

BUILT_IN = Path(__file__).with_name("presets.toml")
HERE = Path("presets")
SUFFIX = ".toml"
LARGEST = 1 << 16  # bytes of a file
MOST = 200  # files listed per folder
LONGEST_HELP = 200  # characters
PLAIN_NAME = re.compile(r"\w[\w.-]{,59}")
WORDS = ("help", "original")


@dataclass(frozen=True)
class Preset:
    """A named RunConfig, with a line on what it is for; `file` is set for a user's own."""

    name: str
    config: RunConfig
    help: str = ""  # of a user's own; the catalogues have those of the built-in ones
    original: str = ""  # the class of the original scripts that it corresponds to
    parent: str = ""
    file: Path | None = None

    @property
    def finetunes(self) -> bool:
        """False if a model is trained from random weights."""
        return bool(self.config.pretrained_model)

    def summary(self, lang: Lang = "en") -> str:
        """What it is for, in `lang`."""
        if not self.file:
            return template(f"preset.{self.name}.summary", lang)
        return self.help or say("preset.derived", lang, parent=self.parent)

    def changes(self) -> dict[str, Any]:
        """The settings in which it differs from its parent."""
        base = to_json(preset(self.parent).config if self.parent else RunConfig())
        return {name: value for name, value in to_json(self.config).items() if value != base[name]}


@cache
def built_in() -> Mapping[str, Preset]:
    """The built-in presets, in the order in which they are shown."""
    tables = tomllib.loads(BUILT_IN.read_text(encoding="utf-8"))

    @cache
    def made(name: str) -> Preset:
        table = tables[name]
        return _made(name, table, made(table["parent"]).config if "parent" in table else RunConfig(), None)

    return {name: made(name) for name in tables}


def user_folder() -> Path:
    """The folder of a user's presets that apply in every folder."""
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(os.path.expanduser(base)) / "sft-tui" / "presets"


def presets() -> dict[str, Preset]:
    """All presets: the built-in ones, then those of the user's own that can be read."""
    found = dict(built_in())
    for name, file in own_files().items():
        try:
            found.setdefault(name, _of_file(name, file))
        except InputError:
            continue
    return found


def own_files() -> dict[str, Path]:
    """The files of a user's own presets by name; the current folder takes precedence over the user's configuration."""
    found: dict[str, Path] = {}
    for folder in (HERE, user_folder()):
        try:
            names = sorted(path.name for path in folder.iterdir())[:MOST]
        except OSError:
            continue
        for name in names:
            stem = name.removesuffix(SUFFIX)
            if name.endswith(SUFFIX) and PLAIN_NAME.fullmatch(stem) and stem not in built_in():
                found.setdefault(stem, folder / name)
    return found


def preset(name: str) -> Preset:
    """The preset with this name, or in the file at this path; raises InputError."""
    return _preset(name, ())


def _preset(name: str, heirs: tuple[str, ...]) -> Preset:
    """The preset of this name, as the parent of `heirs`."""
    if name in heirs:
        raise InputError("preset_circle", name=name, names=" → ".join((*heirs, name)))
    if name in built_in():
        return built_in()[name]
    if (name.endswith(SUFFIX) or os.sep in name) and "\0" not in name:
        stem = Path(name).name.removesuffix(SUFFIX)
        return _of_file(stem if PLAIN_NAME.fullmatch(stem) else "run", Path(os.path.expanduser(name)), heirs)
    own = own_files()
    if name in own:
        return _of_file(name, own[name], heirs)
    known = [*built_in(), *own]
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.4)
    raise InputError(
        "preset_unknown", name=name, known=", ".join([*near, *(each for each in known if each not in near)])
    )


def _of_file(name: str, file: Path, heirs: tuple[str, ...] = ()) -> Preset:
    try:
        status = file.stat()
        table = _table(file.absolute(), status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise InputError("preset_unreadable", path=str(file), why=reason(error)) from None
    parent = table.get("parent", "sft-small")
    if not isinstance(parent, str):
        raise InputError("preset_bad", path=str(file), why=Phrase.of("why.key_not_text", key="parent"))
    base = _preset(parent, (*heirs, name))
    return _made(name, {**table, "parent": parent}, base.config, file)


@lru_cache(maxsize=MOST)
def _table(file: Path, _changed: int, _size: int) -> Mapping[str, Any]:
    """The parsed content of a file, read again when it changes; raises InputError and OSError."""
    try:
        return tomllib.loads(read_linked(file, LARGEST).decode("utf-8"))
    except UnicodeDecodeError:
        raise InputError("preset_bad", path=str(file), why=Phrase("why.not_utf8")) from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError("preset_bad", path=str(file), why=" ".join(str(error).split())[:LONGEST_HELP]) from None


def _made(name: str, table: Mapping[str, Any], base: RunConfig, file: Path | None) -> Preset:
    words, values = {}, {}
    for key, value in table.items():
        if key in FIELDS:
            check_kind(key, value)
            values[key] = value
        elif key in WORDS:
            words[key] = _line(key, value, file)
        elif key != "parent":
            near = difflib.get_close_matches(key, [*FIELDS, *WORDS, "parent"], n=1)
            raise InputError("preset_key", path=str(file), key=key, near=near[0] if near else "parent")
    return Preset(name, check(replace(base, **values)), **words, parent=str(table.get("parent", "")), file=file)


def _line(key: str, value: Any, file: Path | None) -> str:
    if not isinstance(value, str):
        raise InputError("preset_bad", path=str(file), why=Phrase.of("why.key_not_text", key=key))
    return " ".join(value.split())[:LONGEST_HELP]


def to_toml(parent: str, values: Mapping[str, Any], words: str = "") -> str:
    """A preset as the text of its file."""
    lines = [f"parent = {_toml(parent)}", *([f"help = {_toml(words)}"] if words else [])]
    return "\n".join([*lines, *(f"{name} = {_toml(value)}" for name, value in values.items())]) + "\n"


def _toml(value: Any) -> str:
    """A value in TOML; JSON texts are valid TOML."""
    return json.dumps(value) if isinstance(value, str) else repr(value)


def save(name: str, parent: str, values: Mapping[str, Any], folder: Path, *, words: str = "", replaces: bool) -> Path:
    """Writes a user's preset; raises InputError, also if its name is taken and `replaces` is false."""
    if not PLAIN_NAME.fullmatch(name):
        raise InputError("preset_name", name=name)
    if name in built_in():
        raise InputError("preset_built_in", name=name)
    if name == parent:
        raise InputError("preset_circle", name=name, names=f"{name} → {name}")
    check(replace(preset(parent).config, **values))
    path = folder / f"{name}{SUFFIX}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        place = staged(path)
        try:
            with place.open("x", encoding="utf-8") as file:
                file.write(to_toml(parent, values, words))
            if replaces:
                place.replace(path)
            else:
                os.link(place, path)  # fails if the file exists, even if it was created just now
        finally:
            place.unlink(missing_ok=True)
    except FileExistsError:
        raise InputError("preset_exists", name=name, path=str(path)) from None
    except OSError as error:
        raise InputError("preset_unwritable", path=str(path), why=reason(error)) from None
    return path


def remove(name: str) -> Path:
    """Removes a user's preset, and returns its file; raises InputError, also if another preset begins with it."""
    own = own_files()
    if name not in own:
        raise InputError("preset_not_own", name=preset(name).name)
    heirs = [entry.name for entry in presets().values() if entry.parent == name]
    if heirs:
        raise InputError("preset_is_parent", name=name, others=", ".join(heirs))
    try:
        own[name].unlink()
    except OSError as error:
        raise InputError("preset_not_removed", path=str(own[name]), why=reason(error)) from None
    return own[name]
