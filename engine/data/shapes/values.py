"""Values of cells as text: what is text already, what is taken as text, and what is refused."""

import math
import re
from decimal import Decimal
from typing import Any

from engine.data.shapes.account import RefusedError

SURROGATE = re.compile("[\ud800-\udfff]")


def text_of(value: Any, what: str, notices: list[str]) -> str | None:
    """The text of a value, None for null and NaN; raises RefusedError that names `what` it was to be.

    A number is taken as it would be written, which is noticed: files made from tables have numbers in text columns.
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
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal) or not math.isfinite(value):
        raise RefusedError(f"{what}_not_text", kind_of(value))
    if "number_as_text" not in notices:
        notices.append("number_as_text")
    try:
        return str(value)
    except ValueError:  # more digits than Python writes
        raise RefusedError(f"{what}_not_text", "a number of thousands of digits") from None


def kind_of(value: Any) -> str:
    """What a person calls a value that is no text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    names = {dict: "object", list: "list", tuple: "list", float: "infinity"}
    return names.get(type(value), type(value).__name__)
