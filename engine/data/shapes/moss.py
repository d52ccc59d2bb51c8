"""Conversations in MOSS's format: named turns, each text enclosed in marks."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from engine.data.shapes.account import RefusedError
from engine.data.shapes.conversation import Turn
from engine.data.shapes.values import text_of

TURN = re.compile(r"turn_(\d+)")
MARKED = re.compile(r"\s*(?:<\|[^|]*\|>:?)?\s*(.*?)\s*(?:<eo\w>)?\s*", re.DOTALL)
NOTHING = ("", "none")


def moss_turns(value: Any, column: str, notices: list[str]) -> Iterator[Turn]:
    """The turns of `{"turn_1": {"Human": …, "MOSS": …}, …}`, or of its JSON; raises RefusedError."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = None
    if not is_moss(value):
        raise RefusedError("column_not_list", column)
    for _, turn in sorted(value.items(), key=lambda item: int(item[0].removeprefix("turn_"))):
        if turn is None:  # in a table every conversation has as many turns as the longest
            continue
        said = {name: _plain(text, notices) for name, text in turn.items()}
        for name in ("Commands", "Tool Responses"):
            if said.get(name, "").casefold() not in NOTHING:
                raise RefusedError("turn_calls_tools", name)
        thoughts = said.get("Inner Thoughts", "")
        yield Turn("user", said.get("Human", ""))
        yield Turn("assistant", said.get("MOSS", ""), reasoning="" if thoughts.casefold() in NOTHING else thoughts)


def is_moss(value: Any) -> bool:
    """Whether a value has turns with such names."""
    if not isinstance(value, Mapping) or not value:
        return False
    return all(TURN.fullmatch(str(name)) and isinstance(turn, Mapping | None) for name, turn in value.items())


def _plain(text: Any, notices: list[str]) -> str:
    """A text without its marks."""
    found = MARKED.fullmatch(text_of(text, "turn", notices) or "")
    return found[1] if found else ""
