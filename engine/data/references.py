"""What replies are scored against: the answers as the data file has them, neither cut nor decoded.

Those of conversations come with the message that they answer, to be shown: a prompt as the model sees it is the whole
conversation, in the form that its template gives it.

They are read from the data file once, for the rows that get a reply, and kept in the token store's folder: a trainer
whose rows are already tokenized does not read Parquet, which would take 45 MB.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from engine.contract.config import RunConfig
from engine.contract.durable import read_json, write_json
from engine.contract.messages import InputError
from engine.data.chat.conversations import Chat
from engine.data.parquet_rows import RowSource
from engine.data.store_files import REFERENCES
from engine.data.token_store import TokenStore

if TYPE_CHECKING:
    import pyarrow.parquet as pq


class Reference(NamedTuple):
    """An answer, and for a conversation the message that it answers."""

    answer: str
    asked: str = ""


def rows_scored(config: RunConfig, rows: int) -> int:
    """How many of `rows` validation or test rows have their loss computed: the first ones."""
    return min(config.eval_rows or rows, rows)


def rows_replied(config: RunConfig, rows: int) -> int:
    """How many of `rows` validation or test rows get a generated reply: the first ones."""
    scored = rows_scored(config, rows)
    return min(config.bleu_rows or scored, scored)


def references(source: RowSource, store: TokenStore, count: int) -> list[Reference]:
    """The answers that the first `count` rows of a store of `source` end with, verbatim; raises InputError."""
    kept = _kept(store)
    if len(kept) < count:
        kept = _read(source, store, count)
        with contextlib.suppress(OSError):  # if it cannot be written, it is read again the next time
            write_json(store.folder / REFERENCES, {"sha256": _digest(kept), "texts": kept})
    return kept[:count]


def _kept(store: TokenStore) -> list[Reference]:
    """The references that were kept earlier, unless they have been damaged."""
    noted = read_json(store.folder / REFERENCES)
    try:
        texts = [Reference(*texts) for texts in noted["texts"]]
    except (KeyError, TypeError):
        return []
    sound = noted.get("sha256") == _digest(texts) and all(isinstance(text, str) for one in texts for text in one)
    return texts if sound else []


def _digest(texts: list[Reference]) -> str:
    return hashlib.sha256(json.dumps(texts).encode("ascii")).hexdigest()


def _read(source: RowSource, store: TokenStore, count: int) -> list[Reference]:
    """The answers of the first `count` rows; reading stops after the last of them."""
    found: list[Reference] = []
    with contextlib.closing(source.open()) as file:
        answers = _answers(source, file) if source.chat is None else _answers_of_chats(source, file, store)
        for number, answer in answers:
            if number == store.row_number(len(found)):
                found.append(answer)
            if len(found) == count:
                return found
    raise InputError("parquet_bad", path=str(source.path), why="it was written to while it was read")


def _answers(source: RowSource, file: "pq.ParquetFile") -> Iterator[tuple[int, Reference]]:
    """Every response, with the row of the file that it is in."""
    for batch in source.batches(file):
        yield from ((number, Reference(str(text))) for number, text in zip(batch.numbers, batch.responses, strict=True))


def _answers_of_chats(source: RowSource, file: "pq.ParquetFile", store: TokenStore) -> Iterator[tuple[int, Reference]]:
    """The answer that each row of a store ends with, with the row of the file that it is in."""
    sample, number = 0, 0
    for chats in source.chats(file):
        for chat in chats:
            while isinstance(chat, Chat) and sample < len(store) and store.row_number(sample) == number:
                place = store.answer(sample)
                yield number, Reference(*(chat.messages[at]["content"] for at in (place, place - 1)))
                sample += 1
            number += 1
