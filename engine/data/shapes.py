"""The shapes that records come in, and the pairs of prompt and response that each one makes."""

from collections.abc import Mapping
from typing import Any

from engine.data.account import RefusedError

# Keys of a prompt and its response, first match wins; the columns that were asked for come before them.
PAIRS = (
    ("prompt", "response"), ("prompt", "completion"), ("question", "answer"), ("query", "response"), ("问题", "回答"),
    ("问", "答"), ("input", "output"), ("instruction", "response"), ("prompt", "chosen"),
)  # fmt: skip
# Every column that some shape reads.
COLUMNS = {"instruction", "conversations", "messages", "conversation"}.union(*PAIRS)
ASKING, ANSWERING = ("human", "user", "prompter"), ("gpt", "assistant", "bot", "chatgpt", "model")
Pair = tuple[Any, Any]


def shaped(record: Any, asked: tuple[str, str]) -> tuple[str, list[Pair]]:
    """Name of the shape of a record, and its pairs; raises RefusedError."""
    if isinstance(record, RefusedError):
        raise record
    if not isinstance(record, Mapping):
        raise RefusedError("not_object")
    if all(name in record for name in asked):
        return "/".join(asked), [(record[asked[0]], record[asked[1]])]
    for name in ("conversations", "messages", "conversation"):
        if isinstance(record.get(name), list):
            shape = "sharegpt" if name.startswith("conv") else "messages"
            return shape, _turns(record[name], record.get("system"))
    if "instruction" in record and "output" in record:
        prompt, more = record["instruction"], record.get("input")
        if isinstance(prompt, str) and isinstance(more, str) and more.strip():
            prompt = f"{prompt}\n{more}"
        return "alpaca", [(prompt, record["output"])]
    for first, second in PAIRS:
        if first in record and second in record:
            return f"{first}/{second}", [(record[first], record[second])]
    raise RefusedError("no_known_columns", ", ".join(map(str, record)))


def _turns(turns: list[Any], system: Any) -> list[Pair]:
    """One pair for each answer, with the question before it; a system's text goes before the first question."""
    pairs: list[Pair] = []
    asked, before = None, system if isinstance(system, str) and system.strip() else ""
    for turn in turns:
        if not isinstance(turn, Mapping):
            raise RefusedError("turn_not_object")
        role = str(turn.get("from", turn.get("role", ""))).lower()
        text = _content(turn.get("value", turn.get("content")))
        if role == "system":
            before = text
        elif role in ASKING:
            asked = f"{before}\n{text}" if before and isinstance(text, str) else text
            before = ""
        elif role in ANSWERING and asked is not None:
            pairs.append((asked, text))
            asked = None
        elif role not in ANSWERING:
            raise RefusedError("unknown_role", role[:20])
    if not pairs:
        raise RefusedError("no_answer")
    return pairs


def _content(content: Any) -> Any:
    """The text of a message, which may come in parts."""
    if isinstance(content, list) and all(isinstance(part, Mapping) for part in content):
        parts = [part.get("text") for part in content if part.get("type", "text") == "text"]
        return "".join(part for part in parts if isinstance(part, str))
    return content
