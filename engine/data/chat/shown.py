"""Why a conversation becomes the rows that it becomes, and the texts of their tokens: what a person wants to see."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.data.chat.conversations import Chat
from engine.data.chat.rows import ChatRow, Made
from engine.data.chat.templates import ChatTemplate

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST_BYTES = 8  # tokens that may be bytes of one character
SHOWN = 80  # characters of what is written differently


@dataclass(frozen=True)
class Rewritten:
    """A message that the template writes differently before a later answer: which, how in the row before, how now."""

    message: int
    before: str
    after: str


def rewritten(template: ChatTemplate, chat: Chat, made: Made, number: int) -> Rewritten | None:
    """Why row `number` is another one than the row before it; None if that is not because of the template."""
    if not number or made.rows[number].first != made.rows[number - 1].first:
        return None
    last, row = made.rows[number - 1 : number + 1]
    common = next((at for at, (one, other) in enumerate(zip(last.ids, row.ids, strict=False)) if one != other), 0)
    begin = _character(template.tokenizer, last.ids, common)
    before, after = (_text(template.tokenizer, ids[begin : begin + SHOWN]) for ids in (last.ids, row.ids))
    place = len(_text(template.tokenizer, last.ids[:begin]))
    return Rewritten(_message(chat, last, _text(template.tokenizer, last.ids), place), before[:SHOWN], after[:SHOWN])


def _character(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int], at: int) -> int:
    """The place at or before `at` where a character begins."""
    while at > 0 and _text(tokenizer, ids[at : at + MOST_BYTES]).startswith("\ufffd"):
        at -= 1
    return at


def _message(chat: Chat, row: ChatRow, text: str, place: int) -> int:
    """The message of a row whose content is the first to end after a place in the row's text."""
    end = 0
    for number in range(row.first, row.answer):
        content = chat.messages[number]["content"].strip()
        found = text.find(content, end)
        end = found + len(content) if found >= 0 else end
        if end > place:
            return number
    return row.answer


def texts(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int]) -> Iterator[str]:
    """The text of each id; of ids that are bytes of one character the first has it, the others have none."""
    start = 0
    while start < len(ids):
        size, text = _next(tokenizer, ids, start)
        yield text
        yield from [""] * (size - 1)
        start += size


def _next(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int], start: int) -> tuple[int, str]:
    """How many ids from `start` on make whole characters, and their text."""
    before = ids[max(0, start - 1) : start]  # a decoder may strip the space before the first word
    known = _text(tokenizer, before)
    for size in range(1, MOST_BYTES + 1):
        text = _text(tokenizer, [*before, *ids[start : start + size]])
        if not text.endswith("\ufffd") and text.startswith(known):
            return size, text[len(known) :]
        if start + size >= len(ids):
            break
    return 1, str(tokenizer.convert_ids_to_tokens(ids[start]))


def _text(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))
