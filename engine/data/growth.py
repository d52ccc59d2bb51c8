"""How much text a tokenizer's normalizer can produce from a single character, over all characters."""

import json
import struct
from base64 import b64decode
from collections.abc import Iterator
from typing import Any

from tokenizers import normalizers

EXPANSION_LIMIT = 1000  # characters from one; the longest decomposition of Unicode has 18


def longest_expansion(normalizer: normalizers.Normalizer | None) -> int:
    """Characters of the longest text that a rule substitutes for a character, once later rules are applied too.

    Exact up to `EXPANSION_LIMIT`, where the computation stops. Unicode decompositions are short and not counted.
    """
    steps = list(_steps(json.loads(normalizer.__getstate__()))) if normalizer is not None else []
    while steps and not _lengthens(steps[-1]):
        steps.pop()
    made = {"a"}
    for step in steps:
        rule = normalizers.Sequence([])
        rule.__setstate__(json.dumps(step).encode())
        made = {str(rule.normalize_str(text)) for text in made} | _contents(step)
        if max(map(len, made)) > EXPANSION_LIMIT:
            break
    return max(map(len, made))


def _steps(state: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The rules of a normalizer, in order."""
    if state.get("type") == "Sequence":
        for inner in state["normalizers"]:
            yield from _steps(inner)
    elif state:
        yield state


def _lengthens(step: dict[str, Any]) -> bool:
    """Whether a rule makes several characters from one."""
    return any(len(content) > 1 for content in _contents(step))


def _contents(step: dict[str, Any]) -> set[str]:
    """The texts that a rule substitutes for others or prepends to them."""
    kind = step.get("type")
    if kind == "Replace":
        return {step["content"]}
    if kind == "Prepend":
        return {step["prepend"]}
    return _of_charsmap(step["precompiled_charsmap"]) if kind == "Precompiled" else set()


def _of_charsmap(coded: str) -> set[str]:
    """The texts of SentencePiece's table: the size of an index, the index, and texts that each end with a NUL."""
    table = b64decode(coded)
    if len(table) < 4:
        return set()
    start = 4 + struct.unpack_from("<I", table)[0]
    return {text.decode("utf-8", "replace") for text in table[start:].split(b"\0")}
