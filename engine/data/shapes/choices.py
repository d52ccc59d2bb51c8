"""The options of a multiple-choice question, as lines of its prompt."""

import contextlib
import json
import re
from collections.abc import Mapping
from typing import Any

from engine.data.shapes.account import RefusedError
from engine.data.shapes.columns import Columns, blank
from engine.data.shapes.values import text_of

LETTERS = "ABCDEFGHIJ"
NUMBER = re.compile(r"[0-9]{1,9}(\.0)?")


def options_of(columns: Columns, notices: list[str]) -> list[str]:
    """`A. …` and so on; empty if the record has no options; raises RefusedError if it is unclear which they are.

    They are in columns named by letters, or in one: a list, an object keyed by letters, or separate texts and labels.
    """
    named = columns.options()
    if columns.has("choices"):
        named += _listed(columns.get("choices"), str(columns.name("choices")))
    lines = [f"{letter}. {text_of(value, 'prompt', notices) or ''}" for letter, value in named if not blank(value)]
    if lines:
        _require_clear(columns, [line.partition(". ")[2] for line in lines])
    return lines


def _listed(value: Any, column: str) -> list[tuple[str, Any]]:
    if isinstance(value, str):
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(value)
    if isinstance(value, Mapping) and isinstance(value.get("text"), list) and isinstance(value.get("label"), list):
        return list(zip(map(str, value["label"]), value["text"], strict=False))
    if isinstance(value, Mapping):
        return [(str(letter), text) for letter, text in value.items()]
    if isinstance(value, list | tuple) and len(value) <= len(LETTERS):
        return list(zip(LETTERS, value, strict=False))
    raise RefusedError("options_unclear", column)


def _require_clear(columns: Columns, texts: list[str]) -> None:
    """Raises RefusedError if the answer may be an option's number: whether these start at 0 or 1 is unknown."""
    part = columns.first("answer", "answerer")
    answer = str(columns.get(part)).strip()
    if NUMBER.fullmatch(answer) and (answer not in texts or float(answer) <= len(texts)):
        raise RefusedError("answer_is_number", str(columns.name(part)))
