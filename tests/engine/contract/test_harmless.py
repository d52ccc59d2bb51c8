"""Nothing that a terminal would interpret is left in foreign text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.contract.harmless import harmless, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "␛[31mred"), ("\x7f", "␡"), ("\x9b2J", "<U+009B>2J"), ("a\u202eb", "a<U+202E>b"),
        ("\ud800", "<U+D800>"), ("a\nb\tc", "a\nb\tc"), ("👨\u200d👩", "👨\u200d👩"), ("中文 é", "中文 é"), ("\r", "␍"),
    ],
)  # fmt: skip
def test_controls_become_visible_and_text_stays(text: str, shown: str) -> None:
    assert harmless(text) == shown


@given(st.text())
def test_no_text_keeps_a_control_character(text: str) -> None:
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in harmless(text) if char not in "\n\t")


def test_a_line_end_alone_is_visible_too() -> None:
    assert visible("\n") == "␊"
