"""How `data show` prints a conversation as a chat model learns it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from engine.contract.facts import ConversationFacts, LearnedRowFacts, RewrittenFacts, RowFacts, TokenizerFacts
from engine.contract.texts import Lang
from sft_tui import row_view
from sft_tui.chat_row_view import Line
from sft_tui.text import width

FIRST = LearnedRowFacts((1, 72, 9, 4, 5, 2), ("<|im_start|>", " Hi", "\x1b[2J", "你", "", "<|im_end|>"), ((3, 6),))
WHY = RewrittenFacts(1, "assistant", "<think>\x1b]0;x\n", "4")
SECOND = LearnedRowFacts((7, 8), ("一", "二"), ((1, 2),), left_out=2, lost="user: 甲\nassistant: 乙", rewritten=WHY)
TALK = ConversationFacts(messages=4, answers=2, too_long=1, limit=64, rows=(FIRST, SECOND))
ROW = RowFacts(3, TokenizerFacts(100), "messages", chat=TALK)


def shown(lang: Lang, columns: int = 100, row: RowFacts = ROW) -> list[Line]:
    return list(row_view.lines(row, Path("a.parquet"), 0, columns, lang))


def test_learned_tokens_are_marked_and_every_token_is_shown() -> None:
    tokens = [line for line in shown("en") if line.text.startswith(("  <", "▌", "  一"))]
    assert tokens == [
        Line("  <|im_start|>=1 ▁Hi=72 ␛[2J=9"), Line("▌ 你=4+5 <|im_end|>=2", learned=True), Line("  一=7"),
        Line("▌ 二=8", learned=True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("lang", "said"),
    [
        ("en", ["4 messages, 2 answers to learn, 2 training rows; lines of learned tokens begin with ▌",
                "1 answer left out: longer than 64 tokens with what must come before",
                "training row 1 of 2: 6 tokens, 3 learned",
                "another training row, because the template writes message 2 (assistant) differently before a later",
                "answer",
                "  in the training row before: <think>␛]0;x␊", "  here: 4",
                "2 oldest messages left out to fit: user: 甲␊assistant: 乙"]),
        ("zh", ["4 条消息，学习 2 个回答，成为 2 行训练数据；▌ 标出学习的词元",
                "略去 1 个回答：连同必需的前文超过 64 个词元",
                "训练数据 1/2：6 个词元，学习 3 个", "略去最早的 2 条消息（放不下）： user: 甲␊assistant: 乙"]),
    ],
)  # fmt: skip
def test_the_rows_of_a_conversation_are_explained(lang: Lang, said: list[str]) -> None:
    texts = [line.text for line in shown(lang)]
    assert [line for line in said if line not in texts] == []


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_what_is_said_of_a_row_fits_80_columns(lang: Lang) -> None:
    long = "很长" * 200
    row = replace(SECOND, lost=long, rewritten=RewrittenFacts(1, "assistant", long, long))
    lines = shown(lang, 80, replace(ROW, chat=replace(TALK, rows=(row,))))
    assert max(width(line.text) for line in lines) <= 80


@pytest.mark.parametrize("columns", [20, 80, 120])
def test_lines_of_tokens_fit_the_terminal(columns: int) -> None:
    row = LearnedRowFacts(tuple(range(400)), ("天气",) * 400, ((100, 300),))
    talk = ConversationFacts(2, 1, 0, 512, (row,))
    found = RowFacts(1, TokenizerFacts(100), "messages", chat=talk)
    lines = [line for line in shown("en", columns, found) if "=" in line.text]
    assert max(width(line.text) for line in lines) <= columns
    assert sum(line.text.count("=") for line in lines if line.learned) == 200
    assert sum(line.text.count("=") for line in lines) == 400


def test_the_json_has_ids_spans_and_what_is_learned() -> None:
    found = json.loads(json.dumps(row_view.to_json(ROW)))["conversation"]
    assert found["rows"][0]["ids"] == [1, 72, 9, 4, 5, 2]
    assert found["rows"][0]["learned"] == [[3, 6]]
    assert found["rows"][0]["learned_texts"] == ["你<|im_end|>"]
    assert (found["answers"], found["rows"][1]["rewritten"]["message"]) == (2, 1)
