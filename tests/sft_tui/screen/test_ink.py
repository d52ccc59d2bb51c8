import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

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
@given(TEXT, st.integers(2, 30))
def test_wrapped_lines_keep_within_their_columns_and_lose_nothing(text: str, width: int) -> None:
    lines = ink.wrap(text, width)
    assert all(cell_len(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("text", "lines"),
    [(" 000000", ["00", "00", "00"]), ("   模型", ["模", "型"]), ("a  bbb", ["a", "bb", "b"]), ("  ", [""])],
)
def test_spaces_at_the_beginning_of_a_line_do_not_widen_it(text: str, lines: list[str]) -> None:
    assert ink.wrap(text, 2) == lines


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


@pytest.mark.parametrize("width", range(6, 40))
def test_no_line_begins_with_a_closing_mark(width: int) -> None:
    texts = (
        "没有可用的文件，请（放入）“模型”。结束……好：《书名》、‘甲’；乙！",
        "model_save/sft_small 中有未完成的运行 sft-small-2，停在第 69 步（共 69 步）。",
        "找不到预训练模型 model_save/chat_small_t5.best.bin。请用 f（修复）！",
    )
    for text in texts:
        lines = ink.wrap(text, width)
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")
        assert all(cell_len(line) <= width for line in lines)
        for line in lines[1:]:
            assert line[0] not in "，。、；：？！）》”’…", lines
        for line in lines[:-1]:
            assert line[-1] not in "（《“‘", lines


def test_a_text_of_nothing_but_commas_fills_its_lines() -> None:
    assert ink.wrap("，" * 10, 6) == ["，，，"] * 3 + ["，"]
    assert ink.wrap("," * 10, 6) == ["," * 6, "," * 4]
