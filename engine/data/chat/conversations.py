"""Conversations as a data file holds them: checked, bounded, and in the form that chat templates read."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from engine.data.shapes.account import RefusedError
from engine.data.shapes.columns import blank
from engine.data.shapes.conversation import Conversation, Turn
from engine.data.shapes.tools import tools_of
from engine.data.shapes.turns import is_turns, listed, turn_of, turns_of

DEVELOPER = "developer"  # a system text to an import; some templates know the role
LEADING = ("system", DEVELOPER)  # at the beginning of a conversation they are never left out
MOST_MESSAGES = 1024  # each answer is rendered with what comes before it: 7 s of a core if all of it is one row
MOST_CHARACTERS = 1 << 22  # of a conversation
TEMPLATE_MESSAGE = dict[str, Any]


@dataclass(frozen=True)
class Chat:
    """The messages of a conversation and the tools that its model may call; which messages are answers to learn.

    `notices` are codes (`engine.contract.reasons`) of what was left out of it.
    """

    messages: tuple[TEMPLATE_MESSAGE, ...]
    tools: tuple[dict[str, Any], ...] | None
    answers: tuple[int, ...]
    characters: int
    notices: tuple[str, ...] = ()

    @property
    def head(self) -> int:
        """How many system texts it begins with."""
        return next((at for at, one in enumerate(self.messages) if one["role"] not in LEADING), len(self.messages))

    def texts(self, role: str = "") -> Iterator[str]:
        """The contents of all messages, or of those of a role."""
        return (one["content"] for one in self.messages if one["role"] == role or not role)

    def exchanges(self) -> list[int]:
        """Where the exchanges after the system texts begin: at each message of a user, and at the first one."""
        starts = [at for at, one in enumerate(self.messages) if one["role"] == "user" and at > self.head]
        return [self.head, *starts]


def chat_of(messages: Any, tools: Any = None) -> Chat:
    """The conversation of a row: a list of messages, and of tools, or JSON of them; raises RefusedError.

    Each message is read as an import reads it, but the messages stay apart and in the file's order, also if several of
    one role follow each other: a template gets what it would get in use.
    """
    if messages is None:
        raise RefusedError("messages_null")
    items, notices = listed(messages, "messages"), list[str]()
    if not items:
        raise RefusedError("messages_empty")
    described = "" if blank(tools) else tools_of(tools, "tools")
    if not is_turns(items):
        made = Conversation.of(turns_of(items, "messages", notices), whole=True)
        return _bounded(made.all_turns, described, notices + made.notices)
    made = Conversation(turns=[turn_of(item, notices) for item in items])
    made.end_at_empty()
    notices += ["answer_unlearned"] * sum(turn.role == "assistant" and not turn.learned for turn in made.turns)
    found = _bounded(made.turns, described, notices + made.notices)
    for item, message in zip(items, found.messages, strict=False):
        if item.get("role") == DEVELOPER:
            message["role"] = DEVELOPER
    return found


def chat_of_conversation(conversation: Conversation) -> Chat:
    """The conversation that an import would make of a row, or of a pair of texts; raises RefusedError."""
    return _bounded(conversation.all_turns, conversation.tools, conversation.notices)


def _message_of(turn: Turn) -> TEMPLATE_MESSAGE:
    """A turn in the form that templates read."""
    more = {"reasoning_content": turn.reasoning, "name": turn.name, "tool_call_id": turn.call_id}
    message = {"role": turn.role, "content": turn.text, **{name: text for name, text in more.items() if text}}
    return message | ({"tool_calls": json.loads(turn.calls)} if turn.calls else {})


def _bounded(turns: Sequence[Turn], described: str, notices: Sequence[str]) -> Chat:
    """The conversation, if it has an answer to learn and is not beyond any measure; `described` are its tools.

    It ends at `MOST_MESSAGES`. An answer with which it begins is history: a model is not asked before anything is said.
    """
    many = [f"messages_many:{MOST_MESSAGES:,}"] * (len(turns) > MOST_MESSAGES)
    turns = turns[:MOST_MESSAGES]
    given = [at for at, turn in enumerate(turns) if turn.role == "assistant"]
    learned = [at for at in given if turns[at].learned]
    answers = tuple(at for at in learned if at)
    if not answers:
        raise RefusedError("answer_unlearned" if given and not learned else "no_answer")
    notices = [*notices, *many, *["answer_first"] * (learned[0] == 0)]
    messages, tools = tuple(map(_message_of, turns)), json.loads(described) if described else []
    characters = len(json.dumps([messages, tools], ensure_ascii=False))
    if characters > MOST_CHARACTERS:
        raise RefusedError("conversation_long", f"{MOST_CHARACTERS:,}")
    return Chat(messages, tuple(tools) or None, answers, characters, tuple(notices))
