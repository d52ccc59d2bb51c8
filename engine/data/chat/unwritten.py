"""What conversations may hold next to their texts and a chat template does not write, so that no model can learn it."""

from collections.abc import Iterator
from typing import Any

from engine.data.chat.conversations import Chat
from engine.data.chat.templates import ChatTemplate
from engine.data.shapes.account import RefusedError

MARK = "AYBXC"  # of which no template has a reason to change anything
ASKED = {"role": "user", "content": "A"}
FUNCTION = {"name": MARK, "description": "A", "parameters": {"type": "object", "properties": {}}}
CALL = {"id": "abcdefghi", "type": "function", "function": {"name": MARK, "arguments": {}}}
# A conversation with one part that says MARK, and its tools.
PROBES: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]] | None]] = {
    "tools": ([ASKED], [{"type": "function", "function": FUNCTION}]),
    "tool_calls": ([ASKED, {"role": "assistant", "content": "", "tool_calls": [CALL]}], None),
    "reasoning_content": ([ASKED, {"role": "assistant", "content": "A", "reasoning_content": MARK}], None),
}


def unwritten_parts(template: ChatTemplate) -> frozenset[str]:
    """The parts that it renders as if they were not there; one that it refuses is none of them."""
    return frozenset(name for name in PROBES if _is_unwritten(template, name))


def _is_unwritten(template: ChatTemplate, name: str) -> bool:
    messages, tools = PROBES[name]
    try:
        return MARK not in template.render(messages, tools, prompt=name == "tools")
    except RefusedError:
        return False


def parts_of(chat: Chat) -> Iterator[str]:
    """The parts that a conversation has."""
    if chat.tools:
        yield "tools"
    for name in ("tool_calls", "reasoning_content"):
        if any(message.get(name) for message in chat.messages):
            yield name
