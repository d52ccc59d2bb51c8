"""The catalogues of texts as tables, for tests that look through all of them."""

import string
from pathlib import Path
from typing import NamedTuple

from engine.contract.texts import DIGEST, LANGS, Lang, catalogue

ROOT = Path(__file__).parents[1]
TEXTS: dict[Lang, dict[str, str]] = {
    lang: {key: text for key, text in vars(catalogue(lang))["_catalog"].items() if key not in ("", DIGEST)}
    for lang in LANGS
}


def modules() -> list[Path]:
    """Every module of the program."""
    packages = (path for folder in ("engine", "sft_tui") for path in sorted((ROOT / folder).rglob("*.py")))
    return [*packages, ROOT / "bench" / "pages.py", ROOT / "train_low_mem.py"]


class Wording(NamedTuple):
    """What a message says and what it advises, in both languages."""

    en: str
    zh: str
    en_fix: str
    zh_fix: str


def wording(code: str) -> Wording:
    """The texts of a message; empty if there is none."""
    what, fix = f"message.{code}.what", f"message.{code}.fix"
    return Wording(*(TEXTS[lang].get(key, "") for key in (what, fix) for lang in LANGS))


MESSAGES = {key.split(".")[1]: wording(key.split(".")[1]) for key in TEXTS["en"] if key.startswith("message.")}


def placeholders(text: str) -> list[str]:
    """The arguments that a text shows, as they are or as a shell takes them, sorted."""
    names = (name for _, name, _, _ in string.Formatter().parse(text) if name is not None)
    return sorted(name.removesuffix("_in_shell") for name in names)
