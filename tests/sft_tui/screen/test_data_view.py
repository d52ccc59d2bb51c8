"""A row of a data file as text, at any size with any content."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract.facts import ConversationFacts, LearnedRowFacts, PairFacts, PieceFacts, RowFacts, TokenizerFacts
from engine.contract.messages import Message
from engine.contract.presets import preset
from engine.contract.texts import Lang
from sft_tui.screen import data_view
from sft_tui.screen.data_view import DataView
from tests.sft_tui.screen.conftest import HEIGHTS, WIDTHS, exact, plain

FILES = {"train_file": "data/train.parquet", "test_file": "data/test.parquet"}


def piece(text: str, kept: int | None = None) -> PieceFacts:
    """One token a character, of which the given number is kept."""
    count = len(text)
    return PieceFacts(text, count, count if kept is None else kept, 0, tuple(range(count)), tuple(text))


def pair_row(prompt: str, response: str, kept: int | None = None) -> RowFacts:
    return RowFacts(5000, TokenizerFacts(100), "pairs", (PairFacts(piece(prompt), piece(response, kept)),))


def chat_row(texts: tuple[str, ...]) -> RowFacts:
    half = len(texts) // 2
    row = LearnedRowFacts(tuple(range(len(texts))), texts, ((half, len(texts)),) if texts else ())
    chat = ConversationFacts(2, 1, 0, 512, (row,))
    return RowFacts(7, TokenizerFacts(100), "messages", chat=chat)


def test_a_pair_says_which_part_is_learned_and_what_is_cut() -> None:
    view = DataView(FILES, "train_file", 3, found=pair_row("abc", "stuvw", 4))
    said = plain(data_view.draw(view, 120, 20))
    assert "▸ training file · test file" in said
    assert "row 3 of data/train.parquet (5,000 rows)" in said
    assert "The kept tokens of each response are learned" in said
    assert "response: 5 tokens, 4 kept, 1 cut" in said
    assert "cut off: v=3" in said
    assert "cut off: v=3" in data_view.copied(view)


def test_learned_tokens_of_a_conversation_have_a_mark_and_a_role() -> None:
    lines = data_view.draw(DataView(FILES, "test_file", found=chat_row(("Hi", " you", "Yes", "."))), 100, 20)
    (learned,) = [line for line in lines if any("▌ Yes=2" in text for text, _ in line)]
    assert {role for text, role in learned if "Yes" in text} == {"good"}
    assert "test file" in plain(lines)


def test_a_file_that_is_not_set_is_not_offered() -> None:
    config = preset("sft-small").config
    assert list(data_view.data_files(config)) == ["train_file", "validation_file", "test_file"]


@pytest.mark.parametrize("lang", ["en", "zh"])
@settings(max_examples=25, deadline=None)
@given(
    WIDTHS,
    HEIGHTS,
    st.one_of(
        st.none(),
        st.builds(pair_row, st.text(max_size=200), st.text(min_size=3, max_size=200)),
        st.builds(chat_row, st.lists(st.text(max_size=30), max_size=60).map(tuple)),
    ),
    st.text(max_size=300),
    st.integers(0, 10**9),
)
def test_the_screen_has_the_exact_size(
    lang: Lang, width: int, height: int, found: RowFacts | None, fault: str, scroll: int
) -> None:
    for shown in (found, None):
        why = Message.of("row_number", text=fault) if shown is None and fault else None
        view = DataView(FILES, "train_file", 10**8, {"train_file": 3}, shown, why, scroll, lang=lang)
        exact(data_view.draw(view, width, height), width, height)
        assert data_view.most_scroll(view, width, height) >= 0
