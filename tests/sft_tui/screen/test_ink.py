from hypothesis import given, settings
from hypothesis import strategies as st

from sft_tui.screen import ink
from sft_tui.text import safe

TEXT = st.text(alphabet=st.one_of(st.sampled_from("ab 你好，…é👍"), st.characters(codec="utf-8")), max_size=40).map(
    safe
)
LINE = st.lists(st.tuples(TEXT, st.sampled_from(["", "dim", "bad"])), max_size=5)


@settings(deadline=None)
@given(LINE, st.integers(0, 40))
def test_a_line_is_fitted_to_its_columns(line: ink.Line, width: int) -> None:
    assert ink.columns(ink.fit(line, width)) == width


@settings(deadline=None)
@given(LINE, st.lists(LINE, max_size=6), st.integers(0, 50), st.integers(0, 12), LINE)
def test_a_frame_has_exactly_its_size(
    title: ink.Line, body: list[ink.Line], width: int, height: int, note: ink.Line
) -> None:
    lines = ink.frame(title, body, width, height, note)
    assert len(lines) == height
    assert {ink.columns(line) for line in lines} <= {width}


@settings(deadline=None)
@given(st.lists(st.floats(), max_size=30), st.integers(0, 20))
def test_a_spark_takes_any_number(values: list[float], width: int) -> None:
    shown = ink.spark(values, width) if width else ""
    assert len(shown) <= max(width, len(values))
    assert set(shown) <= set(ink.BLOCKS) | {" "}


@settings(deadline=None)
@given(st.floats(), st.integers(0, 40))
def test_a_bar_is_as_wide_as_asked(share: float, width: int) -> None:
    assert ink.columns(ink.bar(share, width)) == width


def test_every_theme_knows_every_role() -> None:
    roles = {frozenset(theme) for theme in ink.THEMES.values()}
    assert len(roles) == 1
    for name in ink.THEMES:
        for role in next(iter(roles)):
            ink.Ink(name).style(role)


def test_no_theme_but_its_name_says_so_has_colours() -> None:
    plain = ink.Ink("none")
    assert all(plain.style(role).color is None and plain.style(role).bgcolor is None for role in ink.PLAIN)


def test_ascii_replaces_every_drawing_character() -> None:
    drawn = "".join(map(chr, ink.TO_ASCII)) + ink.BLOCKS
    assert ink.Ink("16", ascii=True).text(drawn).isascii()


def test_what_is_cut_ends_with_an_ellipsis_wherever_it_is_cut() -> None:
    assert ink.plain(ink.fit([("abcd", ""), ("efgh", "dim")], 6)) == "abcde…"
    assert ink.plain(ink.fit([("abcd", ""), ("efgh", "dim")], 4)) == "abc…"
    assert ink.plain(ink.fit([("abcd", ""), ("  ", "dim")], 4)) == "abcd"
    assert ink.fit([("拉丁字母", "")], 6) == [("拉丁… ", "")]


def test_of_a_path_that_is_too_long_the_end_is_kept_from_a_folder_on() -> None:
    assert ink.tail("/home/me/models/SmolLM2", 18) == "…/models/SmolLM2"
    assert ink.tail("data/chat_train.parquet", 12) == "…ain.parquet"
    assert ink.tail("model_save/tokenizer/", 12) == "…/tokenizer/"
    assert ink.tail("short", 12) == "short"
    assert ink.tail("short", 0) == ""
