"""How a chat model learns one conversation of a data file."""

from functools import partial
from typing import TYPE_CHECKING

from engine.contract.facts import (
    MOST_SHOWN,
    ConversationFacts,
    LearnedRowFacts,
    RewrittenFacts,
    RowFacts,
    TokenizerFacts,
)
from engine.contract.messages import InputError
from engine.data.bounded import done_in_time
from engine.data.chat.conversations import Chat
from engine.data.chat.rows import Made, RowMaker
from engine.data.chat.settings import ChatSettings
from engine.data.chat.shown import rewritten, texts
from engine.data.chat.templates import ChatTemplate
from engine.data.parquet_rows import RowSource
from engine.data.shapes.account import RefusedError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def conversation_facts(
    source: RowSource, row: int, tokenizer: "PreTrainedTokenizerBase", facts: TokenizerFacts, limit: int
) -> RowFacts:
    """How one conversation becomes rows of at most `limit` ids; raises InputError."""
    file = source.open()
    rows, seen, form = file.metadata.num_rows, 0, source.form(file)
    for chats in source.chats(file):
        if row < seen + len(chats):
            chat = chats[row - seen]
            found = chat if isinstance(chat, RefusedError) else _in_time(source, chat, tokenizer, limit)
            if isinstance(found, RefusedError):
                return RowFacts(rows, facts, form, refused=str(found))
            return RowFacts(rows, facts, form, chat=found)
        seen += len(chats)
    raise InputError("row_unknown", path=str(source.path), row=row, last=rows - 1)


def _in_time(
    source: RowSource, chat: Chat, tokenizer: "PreTrainedTokenizerBase", limit: int
) -> ConversationFacts | RefusedError:
    assert source.chat is not None
    template = ChatTemplate.of(tokenizer, source.chat.template, source.chat.options)
    work = partial(_learned, source.chat, chat, template, limit)
    return done_in_time(work, str(tokenizer.name_or_path), chat.characters, template.at_work)


def _learned(how: ChatSettings, chat: Chat, template: ChatTemplate, limit: int) -> ConversationFacts | RefusedError:
    """What is learned of a conversation, or the reason why it makes no row."""
    try:
        made = RowMaker(template, how.stops, limit, how.learn, how.too_long).rows(chat)
        rows = tuple(_row(template, chat, made, number) for number in range(len(made.rows)))
    except RefusedError as why:
        return why
    return ConversationFacts(len(chat.messages), len(chat.answers), made.too_long, limit, rows)


def _row(template: ChatTemplate, chat: Chat, made: Made, number: int) -> LearnedRowFacts:
    row = made.rows[number]
    why = rewritten(template, chat, made, number)
    lost = "\n".join(f"{one['role']}: {one['content']}" for one in chat.messages[chat.head : row.first])
    return LearnedRowFacts(
        tuple(row.ids[:MOST_SHOWN]),
        tuple(texts(template.tokenizer, row.ids[:MOST_SHOWN])),
        tuple(row.spans),
        row.left_out,
        lost[:MOST_SHOWN],
        None if why is None else RewrittenFacts(why.message, chat.messages[why.message]["role"], why.before, why.after),
    )
