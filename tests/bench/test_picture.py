"""A screen as a picture: every word stands in the column that it has on the terminal."""

import re
from xml.etree import ElementTree

import pytest

from bench.picture import CELL, MARGIN, svg

TEXT = re.compile(r'<text x="([\d.]+)" y="([\d.]+)" textLength="([\d.]+)" [^>]*>([^<]*)</text>')


def words(screen: str) -> list[tuple[str, int, int]]:
    """The words of the picture, each with its column and its width in columns."""
    found = TEXT.findall(svg(screen))
    return [(word, round((float(x) - MARGIN) / CELL[0]), round(float(size) / CELL[0])) for x, _, size, word in found]


def test_words_apart_are_placed_by_their_columns() -> None:
    assert words(" enter start  e edit    q quit") == [("enter start", 1, 11), ("e edit", 14, 6), ("q quit", 24, 6)]


def test_a_wide_character_has_two_columns() -> None:
    assert words("好的  yes") == [("好的", 0, 4), ("yes", 6, 3)]


def test_an_empty_line_takes_its_height() -> None:
    lines = [float(y) for _, y, _, _ in TEXT.findall(svg("a\n    \nb"))]
    assert lines[1] - lines[0] == 2 * CELL[1]


def test_what_a_browser_would_interpret_is_text() -> None:
    assert "&lt;|im_end|&gt;" in svg("<|im_end|>")


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
