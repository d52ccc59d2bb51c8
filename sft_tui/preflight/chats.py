"""Checks of conversations: what is learned of them, and what is left out."""

from collections.abc import Iterator
from typing import Any

from engine.contract.config import RunConfig
from engine.contract.facts import ChatFacts, DataFacts
from engine.contract.reasons import counted
from sft_tui.preflight.data import TokenRows, longer_limit, percent
from sft_tui.preflight.declaration import Group, Seen
from sft_tui.preflight.finding import Finding

TALKS = Group[TokenRows]("Conversations")


def of_files(config: RunConfig, facts: DataFacts) -> Iterator[Finding]:
    """The findings on the conversations of each data file that could be read."""
    for setting, file in facts.read.items():
        if file.tokens is not None:
            yield from TALKS.findings(TokenRows(config, setting, file, file.tokens), setting)


def _seen(file: TokenRows, chat: ChatFacts, **counts: Any) -> Seen:
    return Seen({"path": file.path, "conversations": chat.conversations, **counts})


@TALKS.check("chats", "ok")
def _chats(file: TokenRows) -> Iterator[Seen]:
    """What is learned of conversations, and the tokens that end an answer, which are learned too."""
    chat, tokens = file.tokens.chat, file.tokens
    if chat is not None:
        samples = sum(tokens.label.histogram.counts)
        share = percent(tokens.label_tokens / max(1, tokens.tokens))
        yield _seen(file, chat, answers=chat.answers, samples=samples, share=share, stops=", ".join(chat.stops))


@TALKS.check("chats_split", "ok")
def _chats_split(file: TokenRows) -> Iterator[Seen]:
    """Conversations are several rows, since the chat template rewrites earlier turns."""
    chat = file.tokens.chat
    if chat is not None and chat.split:
        yield _seen(file, chat, split=chat.split)


@TALKS.check("answers_left_out", "warning", remedy=longer_limit, of_rows=True)
def _answers_left_out(file: TokenRows) -> Iterator[Seen]:
    """Answers do not fit `max_seq_len`."""
    chat = file.tokens.chat
    if chat is not None and chat.too_long:
        limits = {"limit": file.tokens.limit, "longest": file.tokens.longest}
        yield _seen(file, chat, left_out=chat.too_long, **limits)


@TALKS.check("chats_unwritten", "warning")
def _chats_unwritten(file: TokenRows) -> Iterator[Seen]:
    """The chat template leaves out tools, calls of tools or reasoning."""
    chat = file.tokens.chat
    if chat is not None and chat.unwritten:
        yield Seen({"path": file.path, "reasons": counted(chat.unwritten)})


@TALKS.check("chats_open", "ok")
def _chats_open(file: TokenRows) -> Iterator[Seen]:
    """Conversations do not end with an answer."""
    chat = file.tokens.chat
    if chat is not None and chat.open:
        yield _seen(file, chat, open=chat.open)


@TALKS.check("turns_unused", "ok")
def _turns_unused(file: TokenRows) -> Iterator[Seen]:
    """Parts of conversations are left out: empty turns, questions without an answer, reasoning."""
    if file.facts.noticed:
        yield Seen({"path": file.path, "reasons": counted(file.facts.noticed)})
