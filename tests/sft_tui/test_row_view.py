"""How `data show` prints a row."""

from pathlib import Path
from typing import Any

import pytest

from engine.contract.facts import PairFacts, PieceFacts, RowFacts, TokenizerFacts
from engine.contract.texts import Lang
from sft_tui import row_view


def part(text: str, **more: Any) -> PieceFacts:
    """One token a character."""
    return PieceFacts(text, len(text), len(text), 0, tuple(range(len(text))), tuple(text), **more)


def shown_in(prompt: PieceFacts, lang: Lang) -> list[str]:
    row = RowFacts(3, TokenizerFacts(100), "pairs", (PairFacts(prompt, part("好")),))
    return [line.text for line in row_view.lines(row, Path("a.parquet"), 0, 100, lang)]


@pytest.mark.parametrize(("lang", "said"), [("en", "1,234 earlier turns left out:"), ("zh", "略去此前 1,234 轮：")])
def test_dropped_turns_are_printed_above_the_prompt(lang: Lang, said: str) -> None:
    prompt = part("怎么样", turns_left_out=1234, left_out="Q: 你好\nA: \x1b[2J谢谢")
    shown = shown_in(prompt, lang)
    (line,) = [line for line in shown if said in line]
    assert "Q: 你好" in line
    assert "\x1b" not in line
    assert shown.index("  怎么样") == shown.index(line) + 1


def test_a_whole_prompt_mentions_no_turns() -> None:
    prompt = part("怎么样", turns_left_out=0, left_out="")
    shown = "\n".join(shown_in(prompt, "en"))
    assert "turns" not in shown


def test_a_conversation_is_a_pair_for_each_answer() -> None:
    pairs = (PairFacts(part("甲"), part("一")), PairFacts(part("乙"), part("二")))
    row = RowFacts(3, TokenizerFacts(100), "messages", pairs)
    said = [line.text for line in row_view.lines(row, Path("a.parquet"), 0, 100, "en")]
    assert said.index("answer 1 of 2") < said.index("  一") < said.index("answer 2 of 2") < said.index("  二")
    assert [pair["response"]["text"] for pair in row_view.to_json(row)["answers"]] == ["一", "二"]


def test_a_conversation_that_is_left_out_has_its_reason() -> None:
    row = RowFacts(3, TokenizerFacts(100), "messages", refused="role_of_tools:\x1b[2J")
    said = "\n".join(line.text for line in row_view.lines(row, Path("a.parquet"), 0, 100, "en"))
    assert "left out: role ␛[2J" in said
