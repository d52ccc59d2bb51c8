"""One conversation as a chat model learns it."""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

from engine.contract.bounds import as_json
from engine.contract.facts import ConversationFacts, LearnedRowFacts
from engine.contract.texts import Lang, say
from sft_tui.text import cut, safe, width

LEARNED, CONTEXT = "▌ ", "  "  # how lines of tokens begin


class Line(NamedTuple):
    """A line, and whether its tokens are learned."""

    text: str
    learned: bool = False


def to_json(found: ConversationFacts) -> dict[str, Any]:
    """The conversation as plain values, with the texts of what is learned of each row."""
    rows = [as_json(row) | {"learned_texts": list(_learned_texts(row))} for row in found.rows]
    return {**as_json(found), "rows": rows}


def _learned_texts(row: LearnedRowFacts) -> Iterator[str]:
    return ("".join(row.texts[first:end]) for first, end in row.learned)


def lines(found: ConversationFacts, columns: int, lang: Lang) -> Iterator[Line]:
    """The conversation as lines of that width: what is learned of it in how many rows, and the tokens of each."""
    counts = {"messages": found.messages, "answers": found.answers, "rows": len(found.rows)}
    yield from map(Line, _wrapped(say("chat_row.head", lang, mark=LEARNED.strip(), **counts).split(), columns))
    if found.too_long:
        yield Line(say("chat_row.too_long", lang, count=found.too_long, limit=found.limit))
    for number, row in enumerate(found.rows, 1):
        yield Line("")
        learned = sum(end - first for first, end in row.learned)
        counts = {"number": number, "rows": len(found.rows), "tokens": len(row.ids), "learned": learned}
        yield Line(say("chat_row.row", lang, **counts))
        yield from map(Line, _reasons(row, columns, lang))
        yield from _tokens(row, columns)


def _reasons(row: LearnedRowFacts, columns: int, lang: Lang) -> Iterator[str]:
    """Why it is another row, and what is left out of it, of which the beginning is shown."""
    if row.rewritten is not None:
        why = row.rewritten
        text = say("chat_row.rewritten", lang, message=why.message + 1, role=safe(why.role))
        yield from _wrapped(text.split(), columns)
        yield cut(f"  {say('chat_row.before', lang)} {safe(why.before)}", columns)
        yield cut(f"  {say('chat_row.after', lang)} {safe(why.after)}", columns)
    if row.left_out:
        yield cut(f"{say('chat_row.left_out', lang, count=row.left_out)} {safe(row.lost, columns)}", columns)


def _tokens(row: LearnedRowFacts, columns: int) -> Iterator[Line]:
    """Every token, on lines that begin with a mark where they are learned."""
    edges = [edge for span in row.learned for edge in span]
    for first, end in pairwise([0, *edges, len(row.ids)]):
        learned = (first, end) in row.learned
        for text in _wrapped(_shown(row, first, end), columns - len(LEARNED)):
            yield Line(f"{LEARNED if learned else CONTEXT}{text}", learned)


def _shown(row: LearnedRowFacts, first: int, end: int) -> Iterator[str]:
    """Tokens as text and number: `▁Hi=72`, or `你=19526+254` for the bytes of a character."""
    place = first
    while place < end:
        more = place + 1
        while more < end and not row.texts[more]:
            more += 1
        yield f"{safe(row.texts[place].replace(' ', '▁'))}={'+'.join(map(str, row.ids[place:more]))}"
        place = more


def _wrapped(words: Iterable[str], columns: int) -> Iterator[str]:
    line, taken = "", 0
    for word in words:
        size = width(word)
        if line and taken + 1 + size > columns:
            yield line
            line, taken = word, size
        else:
            line, taken = f"{line} {word}" if line else word, taken + bool(line) + size
    if line:
        yield line
