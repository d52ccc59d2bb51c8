"""Cell values as text: which are text already, which are converted, and which are refused."""

import math
import re
from decimal import Decimal
from typing import Any

from engine.data.shapes.account import RefusedError

SURROGATE = re.compile("[\ud800-\udfff]")


def text_of(value: Any, what: str, notices: list[str]) -> str | None:
    """The text of a value, None for null and NaN; raises RefusedError naming `what` it should have been.

    A number is accepted as it would be written, with a notice: files made from tables have numbers in text columns.
    """
    if isinstance(value, str):
        if SURROGATE.search(value):
            raise RefusedError(f"{what}_not_utf8")
        return value
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise RefusedError(f"{what}_not_utf8") from None
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal) or not _is_finite(value):
        raise RefusedError(f"{what}_not_text", kind_of(value))
    if "number_as_text" not in notices:
        notices.append("number_as_text")
    try:
        return str(value)
    except ValueError:  # more digits than Python converts
        raise RefusedError(f"{what}_not_text", "a number of thousands of digits") from None


def _is_finite(value: float | Decimal) -> bool:
    """Whether a number is neither infinite nor NaN; a whole number may be too large for a float."""
    return isinstance(value, int) or Decimal(value).is_finite()


def kind_of(value: Any) -> str:
    """The name that a person would use for a value that is not text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    names = {dict: "object", list: "list", tuple: "list", float: "infinity"}
    return names.get(type(value), type(value).__name__)
