"""Cell values as text."""

from decimal import Decimal
from typing import Any

import pytest

from engine.data.shapes.account import RefusedError
from engine.data.shapes.values import text_of


@pytest.mark.parametrize(
    ("value", "text", "notices"),
    [
        ("中文", "中文", []), ("中文".encode(), "中文", []), ("", "", []), (None, None, []), (float("nan"), None, []),
        (3, "3", ["number_as_text"]), (4.5, "4.5", ["number_as_text"]), (Decimal("1.20"), "1.20", ["number_as_text"]),
        (10**400, f"1{'0' * 400}", ["number_as_text"]), (Decimal("1E+400"), "1E+400", ["number_as_text"]),
    ],
)  # fmt: skip
def test_text_is_kept_and_numbers_are_written(value: Any, text: str | None, notices: list[str]) -> None:
    found: list[str] = []
    assert text_of(value, "prompt", found) == text
    assert found == notices


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("\ud800", "prompt_not_utf8"), (b"\xff", "prompt_not_utf8"), (True, "prompt_not_text:true"),
        ({}, "prompt_not_text:object"), ((1,), "prompt_not_text:list"), (float("inf"), "prompt_not_text:infinity"),
        (10**5000, "prompt_not_text:a number of thousands of digits"),
    ],
    ids=lambda value: str(type(value).__name__) if not isinstance(value, str) else ascii(value),
)  # fmt: skip
def test_anything_else_is_refused_by_its_kind(value: Any, why: str) -> None:
    with pytest.raises(RefusedError) as refused:
        text_of(value, "prompt", [])
    assert str(refused.value) == why


def test_a_number_is_reported_once_for_a_record() -> None:
    notices: list[str] = []
    for value in (1, 2.5):
        text_of(value, "prompt", notices)
    assert notices == ["number_as_text"]
