"""How `data show` prints a row."""

from pathlib import Path
from typing import Any

import pytest

from engine.contract.texts import Lang
from sft_tui import row_view


def part(text: str, **more: Any) -> dict[str, Any]:
    """One token a character."""
    ids = list(range(len(text)))
    return {"text": text, "ids": ids, "pieces": list(text), "kept": len(ids), "unknown": 0, **more}


@pytest.mark.parametrize(("lang", "said"), [("en", "1,234 earlier turns left out:"), ("zh", "略去此前 1,234 轮：")])
def test_dropped_turns_are_printed_above_the_prompt(lang: Lang, said: str) -> None:
    prompt = part("怎么样", turns_left_out=1234, left_out="Q: 你好\nA: \x1b[2J谢谢")
    shown = list(row_view.lines({"rows": 3, "prompt": prompt, "response": part("好")}, Path("a.parquet"), 0, lang))
    (line,) = [line for line in shown if said in line]
    assert "Q: 你好" in line
    assert "\x1b" not in line
    assert shown.index("  怎么样") == shown.index(line) + 1


def test_a_whole_prompt_mentions_no_turns() -> None:
    prompt = part("怎么样", turns_left_out=0, left_out="")
    shown = "\n".join(row_view.lines({"rows": 3, "prompt": prompt, "response": part("好")}, Path("a.parquet"), 0, "en"))
    assert "turns" not in shown
