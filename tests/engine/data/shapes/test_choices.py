"""The options of a multiple-choice question become lines of its prompt."""

from typing import Any

import pytest

from engine.data.shapes.account import RefusedError
from engine.data.shapes.known import shaped

ASKED = {"question": "首都？", "answer": "B"}
LINES = ["首都？", "A. 上海", "B. 北京"]


@pytest.mark.parametrize(
    "options",
    [
        {"A": "上海", "B": "北京"},
        {"选项A": "上海", "选项B": "北京"},
        {"option_a": "上海", "option_b": "北京", "option_c": ""},
        {"choices": ["上海", "北京"]},
        {"choices": '["上海", "北京"]'},
        {"options": {"A": "上海", "B": "北京"}},
        {"choices": {"text": ["上海", "北京"], "label": ["A", "B"]}},
    ],
)
def test_options_in_any_form_are_lines_of_the_prompt(options: dict[str, Any]) -> None:
    (row,) = shaped({**ASKED, **options}).pairs()
    assert row[0].splitlines() == LINES
    assert row[1] == "B"


@pytest.mark.parametrize(
    "options", [{"choices": 3}, {"choices": "not a list"}, {"choices": [str(n) for n in range(11)]}]
)
def test_options_that_cannot_be_read_refuse_the_record(options: dict[str, Any]) -> None:
    with pytest.raises(RefusedError, match="options_unclear"):
        shaped({**ASKED, **options})


@pytest.mark.parametrize("answer", ["0", "1", "1.0"])
def test_an_answer_that_may_be_an_options_number_is_refused(answer: str) -> None:
    with pytest.raises(RefusedError, match="answer_is_number"):
        shaped({**ASKED, "choices": ["上海", "北京"], "answer": answer})


def test_a_number_that_is_an_option_itself_is_an_answer() -> None:
    (row,) = shaped({"question": "多少？", "choices": ["30", "50"], "answer": "50"}).pairs()
    assert row[1] == "50"
