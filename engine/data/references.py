"""What replies are scored against: the texts of the response column, neither cut nor decoded.

They are read from the data file once, for the rows that get a reply, and kept in the token store's folder: a trainer
whose rows are already tokenized does not read Parquet, which would take 45 MB.
"""

import contextlib
import hashlib
import json

from engine.contract.config import RunConfig
from engine.contract.durable import read_json, write_json
from engine.contract.messages import InputError
from engine.data.parquet_rows import RowSource
from engine.data.store_files import REFERENCES
from engine.data.token_store import TokenStore


def rows_scored(config: RunConfig, rows: int) -> int:
    """How many of `rows` validation or test rows have their loss computed: the first ones."""
    return min(config.eval_rows or rows, rows)


def rows_replied(config: RunConfig, rows: int) -> int:
    """How many of `rows` validation or test rows get a generated reply: the first ones."""
    scored = rows_scored(config, rows)
    return min(config.bleu_rows or scored, scored)


def references(source: RowSource, store: TokenStore, count: int) -> list[str]:
    """The responses of the first `count` rows of a store of `source`, verbatim; raises InputError."""
    kept = _kept(store)
    if len(kept) < count:
        kept = _read(source, [store.row_number(index) for index in range(count)])
        with contextlib.suppress(OSError):  # if it cannot be written, it is read again the next time
            write_json(store.folder / REFERENCES, {"sha256": _digest(kept), "texts": kept})
    return kept[:count]


def _kept(store: TokenStore) -> list[str]:
    """The references that were kept earlier, unless they have been damaged."""
    noted = read_json(store.folder / REFERENCES)
    texts = noted.get("texts")
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        return []
    return texts if noted.get("sha256") == _digest(texts) else []


def _digest(texts: list[str]) -> str:
    return hashlib.sha256(json.dumps(texts).encode("ascii")).hexdigest()


def _read(source: RowSource, rows: list[int]) -> list[str]:
    """The responses of these rows of the file, in ascending order, of a conversation once for each answer that is used.

    Reading stops after the last of them.
    """
    found: list[str] = []
    with contextlib.closing(source.open()) as file:
        for batch in source.batches(file):
            for number, response in zip(batch.numbers, batch.responses, strict=True):
                if number == rows[len(found)]:
                    found.append(str(response))
                if len(found) == len(rows):
                    return found
    raise InputError("parquet_bad", path=str(source.path), why="it was written to while it was read")
