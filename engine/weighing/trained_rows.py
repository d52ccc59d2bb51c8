"""Rows of a run's token store, as the run learned them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from engine.contract.config import RunConfig
from engine.contract.messages import InputError
from engine.contract.requests import WantedRow
from engine.contract.weighed import LONGEST_BEGINNING, RowBeginning
from engine.data.chat.shown import texts
from engine.data.parquet_rows import RowSource
from engine.data.token_store import Row, TokenStore, open_store
from engine.inspecting.answer_lines import paced
from engine.models import loading
from engine.models.registry import family_for

BEGINNING = 100  # tokens


@dataclass(frozen=True)
class TrainedRows:
    """The rows of a run's training file, and its tokenizer."""

    path: Path
    tokenizer: PreTrainedTokenizerBase
    store: TokenStore

    @classmethod
    def of(cls, config: RunConfig) -> "TrainedRows":
        """Those of a run with these settings, tokenized if they are not any more; raises InputError."""
        source = RowSource.of(config, "train_file", family_for(config).rows)
        tokenizer = loading.load_tokenizer_of(config)
        looking = paced("token_store")
        store = open_store(
            source, tokenizer, config.max_seq_len, Path(config.token_store), paced("train_file"), looking
        )
        return cls(source.path, tokenizer, store)

    def beginning(self, wanted: WantedRow) -> RowBeginning:
        """How a row begins."""
        row = self._found(wanted)
        if row is None:
            return RowBeginning(wanted.sample, changed=True)
        start, end = row.spans[0]
        given, learned = (self._text(row.ids[part].tolist()) for part in (slice(0, start), slice(start, end)))
        return RowBeginning(wanted.sample, given, learned)

    def row(self, wanted: WantedRow) -> Row:
        """A row; raises InputError if the file has another one in its place."""
        row = self._found(wanted)
        if row is None:
            raise InputError("row_changed", path=str(self.path), row=wanted.row)
        return row

    def texts(self, row: Row) -> tuple[str, ...]:
        """The text of each token of a row."""
        return tuple(texts(self.tokenizer, row.ids.tolist()))

    def _found(self, wanted: WantedRow) -> Row | None:
        if wanted.sample >= len(self.store) or self.store.row_number(wanted.sample) != wanted.row:
            return None
        row = self.store.row(wanted.sample)
        return row if sum(end - start for start, end in row.spans) == wanted.tokens else None

    def _text(self, ids: Sequence[int]) -> str:
        return "".join(texts(self.tokenizer, ids[:BEGINNING]))[:LONGEST_BEGINNING]
