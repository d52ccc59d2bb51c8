"""The pages: those made from the code match it, and what they show, link and tell people to type exists."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import click
import pytest

from bench.pages import ROOT, filled, pages
from sft_tui.cli.main import cli

MARKDOWN = sorted(path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")))
FOR_USERS = [name for name in MARKDOWN if re.search(r"README|docs/(using|data)", name)]
SCREENS = ROOT / "docs" / "screens"


@pytest.mark.parametrize(
    ("path", "text"), list(pages()), ids=lambda given: given.name if isinstance(given, Path) else ""
)
def test_a_page_says_what_the_code_says(path: Path, text: str) -> None:
    assert path.read_text(encoding="utf-8") == text, f"{path.relative_to(ROOT)}: make it again by `make docs`"


def test_a_page_without_the_marks_of_a_table_is_an_error() -> None:
    assert filled("a\n<!-- t -->\nold\n<!-- /t -->\nb\n", {"t": "new"}) == ("a\n<!-- t -->\n\nnew\n\n<!-- /t -->\nb\n")
    with pytest.raises(ValueError, match="the page lacks <!-- t --> … <!-- /t -->"):
        filled("<!-- t -->\n", {"t": "new"})


@pytest.mark.parametrize("name", MARKDOWN)
def test_links_of_a_page_lead_somewhere(name: str) -> None:
    text = re.sub(r"^    .*$|`[^`]*`", "", (ROOT / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
    links = [link for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text) if "://" not in link]
    assert [link for link in links if not ((ROOT / name).parent / link).exists()] == []


def typed(name: str) -> Iterator[list[str]]:
    """The arguments of each `sft-tui` command in the indented lines of a page."""
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        if match := re.match(r"    (?:.*\| )?sft-tui(?: (.*))?$", line):
            yield [word for word in shlex.split(match[1] or "", comments=True) if word != "…"]


@pytest.mark.parametrize("name", FOR_USERS)
def test_commands_of_a_page_are_understood(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert list(typed(name))
    for arguments in typed(name):
        for file in (word for word in arguments if word.endswith((".jsonl", ".parquet")) and "*" not in word):
            (tmp_path / file).parent.mkdir(exist_ok=True)
            (tmp_path / file).touch()
        command: click.Command = cli
        rest = list(arguments)
        while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
            assert rest[0] in command.commands, arguments
            command = command.commands[rest.pop(0)]
        command.make_context("sft-tui", rest)


def test_readmes_show_the_film() -> None:
    for name, lang in (("README.md", "en"), ("README.zh.md", "zh")):
        shown = re.findall(r"\]\(docs/screens/(film-\w+)-[^)]*\.svg\)", (ROOT / name).read_text(encoding="utf-8"))
        assert len(shown) >= 5
        assert set(shown) == {f"film-{lang}"}


@pytest.mark.parametrize("picture", sorted(SCREENS.glob("*.svg")), ids=lambda path: path.stem)
def test_a_picture_is_of_the_screen_kept_as_text(picture: Path) -> None:
    shown = "".join(ElementTree.parse(picture).getroot().itertext())
    assert without_blanks(shown) == without_blanks(picture.with_suffix(".txt").read_text(encoding="utf-8"))


def without_blanks(text: str) -> str:
    """The text without spaces and line ends."""
    return "".join(text.split())
