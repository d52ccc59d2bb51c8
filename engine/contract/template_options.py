"""The setting `template_options`: what a chat template is given by name, `enable_thinking=false, date=2025-01-01`."""

import json
import re
from typing import Any

from engine.contract.messages import InputError

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")
# What the renderer passes by itself, so that no option can take its place.
RESERVED = frozenset(
    (
        "add_generation_prompt", "chat_template", "continue_final_message", "conversation", "conversations",
        "documents", "max_length", "messages", "padding", "return_assistant_tokens_mask", "return_dict",
        "return_tensors", "sanitize_control_tokens", "self", "tokenize", "tokenizer_kwargs", "tools", "truncation",
    )
)  # fmt: skip


def parsed_options(text: str) -> dict[str, Any]:
    """The options by name: values are JSON, and texts otherwise; raises InputError."""
    found: dict[str, Any] = {}
    for part in option_parts(text):
        name, equals, value = part.partition("=")
        name = name.strip()
        if not equals or not NAME.match(name) or name in RESERVED or name in found:
            raise InputError("template_options_bad", part=part.strip())
        found[name] = _value(value.strip())
    return found


def option_parts(text: str) -> list[str]:
    """The text cut at commas outside of quotes, brackets and braces."""
    parts, depth, quoted, start = [], 0, False, 0
    for place, char in enumerate(text):
        if char == '"' and (place == 0 or text[place - 1] != "\\"):
            quoted = not quoted
        elif not quoted:
            depth += (char in "[{") - (char in "]}")
            if char == "," and depth <= 0:
                parts.append(text[start:place])
                start = place + 1
    return [part for part in (*parts, text[start:]) if part.strip()]


def _value(text: str) -> Any:
    """The value as JSON; a word that is not JSON is a text, and so are True, False and None as Python writes them."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return {"True": True, "False": False, "None": None}.get(text, text)
