import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from sft_tui import wrapping
from sft_tui.text import safe

TEXT = st.text(alphabet=st.one_of(st.sampled_from("ab 你好，…é👍"), st.characters(codec="utf-8")), max_size=40).map(
    safe
)


@settings(deadline=None)
@given(TEXT, st.integers(2, 30))
def test_wrapped_lines_keep_within_their_columns_and_lose_nothing(text: str, width: int) -> None:
    lines = wrapping.wrap(text, width)
    assert all(cell_len(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("text", "lines"),
    [(" 000000", ["00", "00", "00"]), ("   模型", ["模", "型"]), ("a  bbb", ["a", "bb", "b"]), ("  ", [""])],
)
def test_spaces_at_the_beginning_of_a_line_do_not_widen_it(text: str, lines: list[str]) -> None:
    assert wrapping.wrap(text, 2) == lines


@pytest.mark.parametrize("width", range(6, 40))
def test_no_line_begins_with_a_closing_mark(width: int) -> None:
    texts = (
        "没有可用的文件，请（放入）“模型”。结束……好：《书名》、‘甲’；乙！",
        "model_save/sft_small 中有未完成的运行 sft-small-2，停在第 69 步（共 69 步）。",
        "找不到预训练模型 model_save/chat_small_t5.best.bin。请用 f（修复）！",
    )
    for text in texts:
        lines = wrapping.wrap(text, width)
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")
        assert all(cell_len(line) <= width for line in lines)
        for line in lines[1:]:
            assert line[0] not in "，。、；：？！）》”’…", lines
        for line in lines[:-1]:
            assert line[-1] not in "（《“‘", lines


def test_a_text_of_nothing_but_commas_fills_its_lines() -> None:
    assert wrapping.wrap("，" * 10, 6) == ["，，，"] * 3 + ["，"]
    assert wrapping.wrap("," * 10, 6) == ["," * 6, "," * 4]
