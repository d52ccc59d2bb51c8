"""Conversations as a column of messages, in the form that `datasets` and trainers of chat models read."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from engine.contract.inputs import USUAL_COLUMNS
from engine.data.shapes.conversation import Conversation, Turn, turns_column

PROMPT, RESPONSE = USUAL_COLUMNS.values()
TURNS = turns_column(PROMPT)
MESSAGES, TOOLS = "messages", "tools"
# Fields of a message that a file has only if one of its messages does; `weight` is 0 for an answer not to be learned.
OPTIONAL = {
    "reasoning_content": pa.string(), "tool_calls": pa.string(), "name": pa.string(), "tool_call_id": pa.string(),
    "weight": pa.int32(),
}  # fmt: skip


def message_of(turn: Turn) -> dict[str, Any]:
    """A turn as a message, with the optional fields that it has; calls are JSON."""
    more = {
        "reasoning_content": turn.reasoning, "tool_calls": turn.calls, "name": turn.name, "tool_call_id": turn.call_id,
    }  # fmt: skip
    weight = {} if turn.learned or turn.role != "assistant" else {"weight": 0}
    return {"role": turn.role, "content": turn.text, **{name: text for name, text in more.items() if text}, **weight}


def record_of(conversation: Conversation) -> dict[str, Any]:
    """A conversation as a row of a file of messages; `tools` are JSON."""
    return {MESSAGES: list(map(message_of, conversation.all_turns)), TOOLS: conversation.tools or None}


class Fields:
    """What the messages of a file have in addition to role and content, and whether a conversation has tools."""

    def __init__(self) -> None:
        self._found: set[str] = set()

    def note(self, record: Mapping[str, Any]) -> None:
        """Notes the fields of one row."""
        self._found |= {name for message in record[MESSAGES] for name in message}
        self._found |= {TOOLS} if record[TOOLS] else set()

    def schema(self) -> pa.Schema:
        """The columns of a file with these fields."""
        names = [name for name in OPTIONAL if name in self._found]
        message = pa.struct(_message_fields({name: OPTIONAL[name] for name in names}))
        columns = [pa.field(MESSAGES, pa.list_(message), nullable=False)]
        return pa.schema([*columns, *([pa.field(TOOLS, pa.string())] if TOOLS in self._found else [])])


def _message_fields(optional: Mapping[str, pa.DataType]) -> list[pa.Field]:
    plain = [pa.field(name, pa.string(), nullable=False) for name in ("role", "content")]
    return [*plain, *(pa.field(name, kind) for name, kind in optional.items())]


# The columns in which rows wait for the choice of their files: a pair, or a conversation.
STAGED = pa.schema([
    pa.field(PROMPT, pa.string()), pa.field(RESPONSE, pa.string()), pa.field(TURNS, pa.list_(pa.int32())),
    pa.field(MESSAGES, pa.list_(pa.struct(_message_fields(OPTIONAL)))), pa.field(TOOLS, pa.string()),
])  # fmt: skip


def as_messages(rows: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Staged rows as rows of messages, of which a pair has two, or those that were recorded."""
    for row in rows:
        if row[MESSAGES] is None:
            yield record_of(Conversation.of_pair(row[PROMPT], row[RESPONSE], row[TURNS]))
        else:
            yield {MESSAGES: row[MESSAGES], TOOLS: row[TOOLS]}
