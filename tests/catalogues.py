"""The catalogues of texts as tables, for tests that look through all of them."""

import string
from typing import NamedTuple

from engine.contract.texts import DIGEST, LANGS, Lang, catalogue

TEXTS: dict[Lang, dict[str, str]] = {
    lang: {key: text for key, text in vars(catalogue(lang))["_catalog"].items() if key not in ("", DIGEST)}
    for lang in LANGS
}


class Wording(NamedTuple):
    """What a message says and what it advises, in both languages."""

    en: str
    zh: str
    en_fix: str
    zh_fix: str


def wording(code: str) -> Wording:
    """The texts of a message; empty where there is none."""
    what, fix = f"message.{code}.what", f"message.{code}.fix"
    return Wording(*(TEXTS[lang].get(key, "") for key in (what, fix) for lang in LANGS))


MESSAGES = {key.split(".")[1]: wording(key.split(".")[1]) for key in TEXTS["en"] if key.startswith("message.")}


def placeholders(text: str) -> list[str]:
    """The arguments that a text shows, as they are or as a shell takes them, sorted."""
    names = (name for _, name, _, _ in string.Formatter().parse(text) if name is not None)
    return sorted(name.removesuffix("_in_shell") for name in names)
