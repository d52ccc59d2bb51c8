"""Plain English: words that an engineer would not use stay out of comments, docstrings, names, pages and texts."""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# What to write instead of each.
INSTEAD = {
    r"mend(s|ed|ing)?": "fix",
    r"anew|for ever": "again, forever",
    r"besides?": "next to, also, apart from",
    r"told": "reported, printed, shown",
    r"who(so)?ever|whomever": "the user, the process that",
    r"strangers?": "foreign, untrusted",
    r"likewise|lest|whence|hence|thereof|unawares": "also, so that not, from where, so, of it",
    r"so many": "that many, the number of",
    r"(go|goes|going|went) on": "continue, resume",
    r"where there (is|are)": "if there is, if it has",
    r"without a word|in silence": "silently",
    r"(?<!there )(?:is|are|was|were) no(?! (?:longer|more|matter))": "is not a valid, is not",
    r"hurry|hurried": "at once",
}
WORDS = re.compile(rf"\b({'|'.join(INSTEAD)})\b", re.IGNORECASE)
NAMES = re.compile(r"(?<![a-z])(mend(s|ed|ing)?|anew|besides?|told|tell(?=_)|(?<=_)tell|whoever|strangers?)(?![a-z])")
STARTS = {tokenize.ENCODING, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}  # of lines, before a docstring

CODE = [path for folder in ("engine", "sft_tui", "bench", "tests") for path in sorted((ROOT / folder).rglob("*.py"))]
CODE = [*CODE, ROOT / "setup.py", ROOT / "train_low_mem.py"]
MADE = ("keys", "reference")  # from texts, which are checked in their catalogue
PAGES = [path for pattern in ("*.md", "docs/*.md", "engine/cpu/*.[ch]", "Makefile") for path in ROOT.glob(pattern)]
PAGES = [path for path in PAGES if not path.name.startswith(MADE)]
CATALOGUES = list(ROOT.glob("*/**/en/**/*.po"))


def odd(text: str, line: int = 1) -> Iterator[str]:
    """The odd words of a text that begins in a line, each with its own line and its surroundings."""
    for match in WORDS.finditer(text):
        around = text[max(0, match.start() - 30) : match.end() + 30]
        yield f"{line + text.count(chr(10), 0, match.start())}: {match[0]!r} in {around!r}"


def odd_in_code(source: str) -> Iterator[str]:
    """The odd words of comments, docstrings and names."""
    if not WORDS.search(source) and not NAMES.search(source.lower()):  # tokenizing takes 50 times as long
        return
    before = tokenize.ENCODING
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and before in STARTS):
            yield from odd(token.string, token.start[0])
        elif token.type == tokenize.NAME and NAMES.search(token.string.lower()):
            yield f"{token.start[0]}: {token.string}"
        before = token.type


def test_code_uses_plain_words() -> None:
    found = {str(path.relative_to(ROOT)): list(odd_in_code(path.read_text(encoding="utf-8"))) for path in CODE}
    assert {path: words for path, words in found.items() if words} == {}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_pages_use_plain_words(path: Path) -> None:
    quoted = re.sub(
        r'"[^"\n]*"', "", path.read_text(encoding="utf-8")
    )  # what another program printed, or an old version
    assert list(odd(quoted)) == []


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.name)
def test_texts_use_plain_words(path: Path) -> None:
    assert list(odd(path.read_text(encoding="utf-8"))) == []


def test_odd_words_are_found_where_they_stand() -> None:
    source = (
        'def tell_all(told):\n    """Fine.\n\n    Mends it."""\n    x = "anew"  # what is no file\n    file.tell()\n'
    )
    assert [one.split(" in ")[0] for one in odd_in_code(source)] == [
        "1: tell_all", "1: told", "4: 'Mends'", "5: 'is no'",
    ]  # fmt: skip
    assert list(odd("there is no file; it is no longer here, and is not set aside")) == []
