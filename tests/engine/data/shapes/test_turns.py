"""Turns of a conversation."""

import pytest

from engine.data.shapes.known import shaped
from tests.engine.data.shapes.conftest import Pairs


@pytest.mark.parametrize(
    ("said", "rows"),
    [
        ([("system", "简短"), ("user", "甲"), ("user", "乙"), ("assistant", "1")], [("简短\n甲\n乙", "1")]),
        ([("user", "甲"), ("assistant", "1"), ("assistant", "2")], [("甲", "1\n2")]),
        ([("system", "写诗"), ("assistant", "床前明月光")], [("写诗", "床前明月光")]),
        ([("system", "一"), ("system", "二"), ("user", "甲"), ("assistant", "1")], [("一\n二\n甲", "1")]),
        ([("user", "甲"), ("assistant", "1"), ("system", "改"), ("user", "乙"), ("assistant", "2")],
         [("甲", "1"), ("Q: 甲\nA: 1\nQ: 改\n乙", "2")]),
    ],
)  # fmt: skip
def test_consecutive_turns_are_joined_and_system_text_is_first(said: Pairs, rows: Pairs) -> None:
    found = shaped({"messages": [{"role": role, "content": text} for role, text in said]})
    assert [(row.prompt, row.response) for row in found.pairs()] == rows
