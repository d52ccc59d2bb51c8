"""The pages: those made from the code match it, and what they show, link and tell people to type exists."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import click
import pytest

from bench.pages import ROOT, filled, pages
from bench.picture import svg
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


@pytest.mark.parametrize(
    ("name", "screen"),
    [
        ("README.md", "2-run"),
        ("README.zh.md", "zh-80x24-run"),
        ("README.md", "chat-5-run"),
        ("README.zh.md", "chat-5-run"),
    ],
)
def test_a_readme_shows_a_picture_of_a_real_screen(name: str, screen: str) -> None:
    assert f"](docs/screens/{screen}.svg)" in (ROOT / name).read_text(encoding="utf-8")
    shown = "".join(ElementTree.parse(SCREENS / f"{screen}.svg").getroot().itertext())
    assert without_blanks(shown) == without_blanks((SCREENS / f"{screen}.txt").read_text(encoding="utf-8"))


def without_blanks(text: str) -> str:
    """The text without spaces and line ends."""
    return "".join(text.split())


def test_a_picture_places_characters_by_their_columns() -> None:
    root = ElementTree.fromstring(svg("\x1b[1;38;2;255;0;0mab\x1b[0m损失<\n \x1b[48;2;0;0;255m好\x1b[0m"))
    texts = [part for part in root.iter() if part.tag.endswith("text")]
    assert [part.text for part in texts] == ["ab", "损失", "<", "好"]
    first, wide, last, below = (part.attrib for part in texts)
    assert (first["fill"], first["font-weight"]) == ("#ff0000", "bold")
    assert float(wide["textLength"]) == 2 * float(first["textLength"])
    assert float(last["x"]) == pytest.approx(float(wide["x"]) + float(wide["textLength"]))
    assert float(below["y"]) > float(last["y"])
    (paper,) = (part.attrib for part in root.iter() if part.attrib.get("fill") == "#0000ff")
    assert (paper["x"], paper["width"]) == (below["x"], below["textLength"])
