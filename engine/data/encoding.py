"""Texts as token ids, each with the end token."""

from functools import partial
from typing import TYPE_CHECKING, Any

from engine.data.bounded import done_in_time

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def encode(texts: list[str], tokenizer: "PreTrainedTokenizerBase") -> list[list[int]]:
    """Token ids of `texts`, each ending with the end token; raises InputError if the tokenizer does not finish."""
    characters = sum(map(len, texts))
    return ids_of(
        done_in_time(partial(encodings, texts, tokenizer), str(tokenizer.name_or_path), characters), tokenizer
    )


def encodings(texts: list[str], tokenizer: "PreTrainedTokenizerBase") -> list[Any]:
    """The tokenizer's encodings of `texts`: with a fast one, nothing of this needs Python."""
    if not texts:
        return []
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return list(tokenizer(texts, add_special_tokens=True, truncation=False, verbose=False)["input_ids"])
    # The same ids as through transformers, without masks and offsets, which take a third of its time.
    if backend.truncation or backend.padding:
        backend.no_truncation()
        backend.no_padding()
    return list(backend.encode_batch_fast(texts))


def ids_of(encodings: list[Any], tokenizer: "PreTrainedTokenizerBase") -> list[list[int]]:
    """The ids of each text, with the end token added if missing: separate lists, which can grow."""
    eos = tokenizer.eos_token_id
    rows = [row if isinstance(row, list) else row.ids for row in encodings]
    for ids in rows:
        if not ids or ids[-1] != eos:
            ids.append(eos)
    return rows


def cut(ids: list[int], limit: int) -> list[int]:
    """At most `limit` of the ids, including the end token."""
    return ids if len(ids) <= limit else [*ids[: limit - 1], ids[-1]]
