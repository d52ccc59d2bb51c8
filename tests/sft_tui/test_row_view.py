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
    return list(row_view.lines(row, Path("a.parquet"), 0, lang))


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
