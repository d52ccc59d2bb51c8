"""Conversations that the tests of shapes share."""

from typing import Any

Pairs = list[tuple[str, str]]
Record = dict[str, Any]


def turns(*texts: str, role: str = "role", text: str = "content", names: str = "user assistant") -> list[Record]:
    """Messages of two that take turns."""
    sides = names.split()
    return [{role: sides[place % 2], text: said} for place, said in enumerate(texts)]


TWO = [("甲", "1"), ("Q: 甲\nA: 1\nQ: 乙", "2")]
