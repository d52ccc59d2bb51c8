"""Conversations as prompts with history."""

import pytest

from engine.data.shapes.known import shaped
from tests.engine.data.shapes.conftest import turns


def test_without_history_a_prompt_is_system_text_and_question() -> None:
    record = {"system": "简短", "messages": turns("甲", "1", "乙", "2")}
    rows = shaped(record).pairs(history=0)
    assert [(row.prompt, row.response) for row in rows] == [("简短\n甲", "1"), ("简短\n乙", "2")]
    assert [row.earlier for row in rows] == [0, 2]


@pytest.mark.parametrize(
    ("history", "last"),
    [(1, "简短\nA: 2\nQ: 丙"), (2, "简短\nQ: 乙\nA: 2\nQ: 丙"), (9, "简短\nQ: 甲\nA: 1\nQ: 乙\nA: 2\nQ: 丙")],
)
def test_a_prompt_has_at_most_the_turns_asked_for(history: int, last: str) -> None:
    record = {"system": "简短", "messages": turns("甲", "1", "乙", "2", "丙", "3")}
    rows = shaped(record).pairs(history)
    assert (len(rows), rows[0].prompt, rows[-1].prompt) == (3, "简短\n甲", last)
    assert len({row.opening for row in rows}) == 1
