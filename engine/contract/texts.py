"""The texts that people read: a catalogue for each language, in gettext's format, with symbolic keys.

Translators edit `locale/<language>/LC_MESSAGES/texts.po`. The program reads the `.mo` next to it, which the
installation and `make texts` compile; it carries the digest of its source, so that an outdated one is recognized.
"""

import gettext
import hashlib
import os
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal, get_args

Lang = Literal["en", "zh"]
LANGS: tuple[Lang, ...] = get_args(Lang)
LANGUAGE = "SFT_TUI_LANG"  # the variable that chooses the language, whatever the locale is
LOCALE = Path(__file__).parent / "locale"
DOMAIN = "texts"
DIGEST = "digest.of.source"  # the key of it in a compiled catalogue
COUNTED = re.compile(r"\{(\w+)[^{}]*\}[^{}]*?\((?:s|es)\)")


@dataclass(frozen=True)
class Phrase:
    """A text as an argument of another one, rendered with it; `fallback` is for readers that do not know the key."""

    key: str
    args: Mapping[str, "Argument"] = field(default_factory=dict)
    fallback: str = field(default="", compare=False)

    @classmethod
    def of(cls, key: str, /, **args: "Argument") -> "Phrase":
        """The phrase `key` with its arguments."""
        return cls(key, args)

    def text(self, lang: Lang = "en") -> str:
        """The phrase in `lang`."""
        found = template(self.key, lang)
        try:
            return filled(found, rendered(self.args, lang)) if found else self.fallback or self.key
        except UNFIT:
            return self.fallback or self.key


# What a text may be given; several are listed as the language lists them.
Argument = str | int | float | Phrase | tuple[str | Phrase, ...]
UNFIT = (KeyError, IndexError, ValueError, TypeError, OverflowError, RecursionError)  # of arguments of another version


def say(key: str, lang: Lang, /, **args: object) -> str:
    """The text `key` in `lang` with its arguments; an unknown key is returned as it is."""
    return filled(catalogue(lang).gettext(key), rendered(args, lang))


def rendered(args: Mapping[str, object], lang: Lang) -> dict[str, object]:
    """Arguments with their phrases in `lang`."""
    return {name: _rendered(value, lang) for name, value in args.items()}


def _rendered(value: object, lang: Lang) -> object:
    if isinstance(value, Phrase):
        return value.text(lang)
    return listed(value, lang) if isinstance(value, tuple) else value


def listed(items: Iterable[object], lang: Lang) -> str:
    """Several things on one line."""
    return template("list.separator", lang).join(str(_rendered(item, lang)) for item in items)


def template(key: str, lang: Lang) -> str:
    """The text with its placeholders; empty if the catalogue does not have it."""
    found = catalogue(lang).gettext(key)
    return "" if found == key else found


def named(group: str, name: str, lang: Lang) -> str:
    """What a value that has a name of its own in each language is called there; an unknown one keeps its name."""
    return template(f"{group}.{name}", lang) or name


@cache
def catalogue(lang: Lang) -> gettext.NullTranslations:
    """The compiled catalogue; an empty one if there is none, so that no run ends for want of words."""
    return _compiled_from(_source(lang))


def language(env: Mapping[str, str] = os.environ) -> Lang:
    """The language that the user chose, or that of their locale, if there is a catalogue for it; else English."""
    for name in (LANGUAGE, "LC_ALL", "LC_MESSAGES", "LANG"):
        if env.get(name):
            return next((lang for lang in LANGS if env[name].lower().startswith(lang)), "en")
    return "en"


def filled(text: str, args: Mapping[str, object]) -> str:
    """A text with its arguments; `{rows} row(s)` becomes singular or plural. Raises what `str.format_map` raises.

    A sentence may count several things, and gettext's plural forms choose by one number alone.
    """
    return COUNTED.sub(lambda found: _one_or_many(found[0], args[found[1]]), text).format_map(args)


def _one_or_many(counted: str, count: object) -> str:
    noun, _, ending = counted.removesuffix(")").rpartition("(")
    return noun if str(count) == "1" else noun + ending


# --- sources and what is compiled from them


def sources() -> Iterator[Path]:
    """Every catalogue as translators edit it."""
    yield from sorted(LOCALE.glob("*/LC_MESSAGES/*.po"))


def is_current(source: Path) -> bool:
    """Whether the compiled catalogue next to `source` was compiled from it."""
    return _compiled_from(source).gettext(DIGEST) == _digest(source)


def fault(lang: Lang) -> str:
    """What is wrong with the compiled catalogue of `lang`; in English, since no other text can be relied on then."""
    source = _source(lang)
    if not source.exists() or catalogue(lang).gettext(DIGEST) == _digest(source):
        return ""
    return f"The texts in {source} are newer than what was compiled from them. Run `make texts`, or install again."


def compile_catalogues() -> None:
    """Compiles every catalogue that has changed. Raises ValueError if one is not valid; needs Babel."""
    from babel.messages import mofile, pofile

    for source in sources():
        if is_current(source):
            continue
        try:
            with source.open("rb") as lines:
                found = pofile.read_po(lines, abort_invalid=True)
        except pofile.PoFileError as error:
            raise ValueError(f"{source}: {error}") from None
        found.add(DIGEST, _digest(source))
        made = source.with_suffix(f".mo.{os.getpid()}")  # another process may do the same
        with made.open("wb") as file:
            mofile.write_mo(file, found)
        made.replace(source.with_suffix(".mo"))


def _source(lang: Lang) -> Path:
    return LOCALE / lang / "LC_MESSAGES" / f"{DOMAIN}.po"


def _compiled_from(source: Path) -> gettext.NullTranslations:
    try:
        with source.with_suffix(".mo").open("rb") as compiled:
            return gettext.GNUTranslations(compiled)
    except (OSError, ValueError, struct.error):
        return gettext.NullTranslations()


def _digest(source: Path) -> str:
    return hashlib.sha256(source.read_bytes()).hexdigest()


if __name__ == "__main__":
    compile_catalogues()


def short_count(count: int) -> str:
    """A number of parameters as people say it: `134.5 M`."""
    for unit, size in (("B", 1_000_000_000), ("M", 1_000_000)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:,}"
