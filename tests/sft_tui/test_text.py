"""Foreign text cannot reach a terminal raw; numbers read as people expect."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_tui.text import cut, duration, number, pad, safe, size, width


@given(st.text(alphabet=st.characters()))
def test_no_terminal_control_is_left(text: str) -> None:
    shown = safe(text)
    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")]
    assert not set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c\ufeff") & set(shown)
    shown.encode("utf-8")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07", "␛]0;title␇"),
        ("one\ntwo\r", "one␊two␍"),
        ("\x9b31m", "<U+009B>31m"),
        ("\u202egnp.exe", "<U+202E>gnp.exe"),
        ("\x7f", "␡"),
        ("\ud800", "<U+D800>"),
    ],
)
def test_control_characters_become_visible(text: str, shown: str) -> None:
    assert safe(text) == shown


@pytest.mark.parametrize("text", ["你好\u3000世界", "👨\u200d👩\u200d👧", "[/x] [bold]markup[/bold]", "café"])
def test_other_text_stays_as_it_is(text: str) -> None:
    assert safe(text) == text


def test_long_text_is_cut_visibly() -> None:
    assert safe("长" * 10, limit=4) == "长长长长…"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.4, "0 s"), (47, "47 s"), (59.7, "1 min 00 s"), (725, "12 min 05 s"), (12_000, "3 h 20 min")],
)
def test_durations_are_formatted(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


@pytest.mark.parametrize(("count", "shown"), [(12, "12 B"), (16_935_700, "16.94 MB"), (2.9e9, "2.90 GB")])
def test_sizes_are_formatted(count: float, shown: str) -> None:
    assert size(count) == shown


@pytest.mark.parametrize(("value", "shown"), [(5e-5, "5e-05"), (25.0, "25"), (3, "3"), ("", "-"), ("a\x1b", "a␛")])
def test_setting_values_are_formatted(value: object, shown: str) -> None:
    assert number(value) == shown


@given(st.text("ab 你好，👩", max_size=30), st.integers(0, 40))
def test_text_is_cut_and_padded_by_columns(text: str, columns: int) -> None:
    shown = cut(text, columns)
    assert width(shown) <= columns
    assert shown == text or not columns or (shown.endswith("…") and text.startswith(shown[:-1]))
    assert (shown == text) == (width(text) <= columns)
    assert width(pad(shown, columns)) == columns


def test_a_wide_character_takes_two_columns() -> None:
    assert (width("微调-1"), width("sft")) == (6, 3)
    assert cut("微调-1", 4) == "微…"
    assert pad("微调", 6) == "微调  "
