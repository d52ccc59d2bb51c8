"""How the model sees one row of a data file."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from engine.contract.config import RunConfig
from engine.contract.facts import MOST_SHOWN, PairFacts, PieceFacts, RowDigests, RowFacts
from engine.contract.inputs import require_files
from engine.contract.messages import InputError
from engine.data.encoding import cut, encode
from engine.data.parquet_rows import RowSource
from engine.data.row_digests import row_digests
from engine.data.shorten import Encode, Prompt, require_turns, shortened
from engine.data.text_checks import Text, TextBatch
from engine.inspecting.answer_lines import send
from engine.inspecting.chat_row_facts import conversation_facts
from engine.inspecting.data_facts import read_tokenizer
from engine.models import weightfile
from engine.models.registry import family_for

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def row_facts(config: RunConfig, name: str, row: int) -> RowFacts:
    """How the model sees one row of a file: its tokens, and which of them are kept or learned; raises InputError."""
    source = RowSource.of(config, name, family_for(config).rows)
    require_files(config, "tokenizer")
    weightfile.require_regular(source.path, name)
    tokenizer, facts = read_tokenizer(config)
    send(doing=name)
    if source.chat is not None:
        return conversation_facts(source, row, tokenizer, facts, config.max_seq_len)
    file = source.open()
    rows, seeing = file.metadata.num_rows, _Seeing(source, tokenizer, config.max_seq_len)
    for batch in source.batches(file):
        places = [place for place, number in enumerate(batch.numbers) if number == row]
        if places:
            refused, form = batch.refused.get(places[0], ""), source.form(file)
            pairs = () if refused else tuple(seeing.pair(batch, place) for place in places)
            return RowFacts(rows, facts, form, pairs, refused)
    raise InputError("row_unknown", path=str(source.path), row=row, last=rows - 1)


def digests_of(path: Path, rows: Sequence[int]) -> RowDigests:
    """The digests of some rows of a data file; raises InputError."""
    from engine.data import parquet

    weightfile.require_regular(path, "train_file")
    send(doing=str(path))
    found = row_digests(path, rows)
    return RowDigests({str(row): digest for row, digest in found.items()}, parquet.opened(path).metadata.num_rows)


@dataclass(frozen=True)
class _Seeing:
    """How pairs of a file are seen through a tokenizer, up to a limit."""

    source: RowSource
    tokenizer: "PreTrainedTokenizerBase"
    limit: int

    def pair(self, batch: TextBatch, place: int) -> PairFacts:
        """One pair of a batch; raises InputError."""
        encoded = partial(encode, tokenizer=self.tokenizer)
        prompt, starts, row = batch.prompts[place], batch.starts[place], batch.numbers[place]
        found = _kept_turns(self.source, row, prompt, starts, encoded, self.limit)
        pieces = _pieces(found.text, self.tokenizer, self.limit)
        shown = replace(pieces, turns_left_out=found.turns, left_out=found.left_out[:MOST_SHOWN])
        return PairFacts(shown, _pieces(batch.responses[place], self.tokenizer, self.limit))


class _Kept(NamedTuple):
    """The part of a prompt that is kept, the number of its oldest turns that are left out, and their text."""

    text: Text
    turns: int = 0
    left_out: str = ""


def _kept_turns(
    source: RowSource, row: int, prompt: Text, starts: Sequence[int] | None, encode: Encode, limit: int
) -> _Kept:
    if not starts or not isinstance(prompt, str):
        return _Kept(prompt)
    asked = Prompt(prompt, starts)
    require_turns(source, row, asked)
    if len(starts) == 1 or len(encode([prompt])[0]) <= limit:
        return _Kept(prompt)
    (found,) = shortened([asked], limit, encode)
    return _Kept(found.text, found.turns, prompt[starts[0] : starts[found.turns] - 1])


def _pieces(text: Text, tokenizer: "PreTrainedTokenizerBase", limit: int) -> PieceFacts:
    if not isinstance(text, str):
        return PieceFacts(None if text is None else repr(text)[:200], 0, 0, 0)
    (ids,) = encode([text], tokenizer)
    unknown = 0 if tokenizer.unk_token_id is None else ids.count(tokenizer.unk_token_id)
    shown = ids if len(ids) <= MOST_SHOWN else [*ids[: MOST_SHOWN - 1], ids[-1]]
    pieces = tuple(map(str, tokenizer.convert_ids_to_tokens(shown)))
    return PieceFacts(text[:MOST_SHOWN], len(ids), len(cut(ids, limit)), unknown, tuple(shown), pieces)
