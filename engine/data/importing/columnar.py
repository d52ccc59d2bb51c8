"""Tables of columns: Parquet, and Arrow as file, stream or Feather, a few rows at a time."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from engine.contract.messages import InputError
from engine.data.compression import opened_stream
from engine.data.formats import Content
from engine.data.parquet import BATCH_ROWS, opened, records, unreadable

Item = tuple[str, Any]  # row number, and its record


class Table:
    """The rows of a columnar file; `columns` are its names, including duplicates."""

    def __init__(self, path: Path, content: Content, stack: contextlib.ExitStack) -> None:
        """Raises InputError; whatever is opened is closed with `stack`."""
        self.path = path
        self.total = 0  # rows, if the file states them
        self._kind = content.kind
        self._source: Any
        with self._errors():
            if content.kind == "parquet":
                self._source = opened(path)
                self.total = self._source.metadata.num_rows
                self.columns: list[str] = self._source.schema_arrow.names
            elif content.kind == "arrow":
                self._source = stack.enter_context(
                    pa.ipc.open_file(stack.enter_context(pa.memory_map(os.fsencode(path))))
                )
                self.columns = self._source.schema.names
            else:
                stream = stack.enter_context(opened_stream(path, content.compression))
                self._source = stack.enter_context(pa.ipc.open_stream(stream))
                self.columns = self._source.schema.names

    def records(self, names: Sequence[str]) -> Iterator[Item]:
        """Rows with the named columns; raises InputError."""
        number = 0
        with self._errors():
            for batch in self._batches(names):
                for start in range(0, len(batch), BATCH_ROWS):
                    for record in records(batch.slice(start, BATCH_ROWS)):
                        yield str(number), record
                        number += 1

    def _batches(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        if self._kind == "parquet":
            yield from self._source.iter_batches(BATCH_ROWS, columns=list(names))
            return
        whole = self._kind == "arrow"
        batches = map(self._source.get_batch, range(self._source.num_record_batches)) if whole else iter(self._source)
        for batch in batches:
            part = batch.select([self.columns.index(name) for name in names])
            part.validate()
            yield part

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError, IndexError) as error:
            if self._kind == "parquet":
                raise unreadable(self.path, error) from None
            why = " ".join(str(error).split())[:300]
            raise InputError("source_table", path=str(self.path), format=self._kind, why=why) from None
