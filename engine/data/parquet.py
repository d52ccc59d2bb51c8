"""Text columns from a Parquet file, a batch at a time, with any fault of the file described in a sentence."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.contract.messages import InputError
from engine.contract.texts import Phrase
from engine.data.not_parquet import require_parquet
from engine.data.shapes.known import suggested
from engine.data.text_checks import Text

# A file is read page by page; otherwise pyarrow would hold all columns whole at once.
STREAMED: dict[str, Any] = {"pre_buffer": False, "buffer_size": 1 << 20}
BATCH_ROWS = 1024


def opened(path: Path, columns: Mapping[str, str]) -> pq.ParquetFile:
    """The file, with `columns` checked, which maps settings to the column names they give; raises InputError."""
    try:
        file = pq.ParquetFile(on_disk(path), page_checksum_verification=True, **STREAMED)
        schema = file.schema_arrow
    except (pa.ArrowException, OSError) as error:
        require_parquet(path)
        raise unreadable(path, error) from None
    for setting, column in columns.items():
        _check_column(path, schema, column, setting)
    return file


def on_disk(path: Path, mode: str = "rb") -> pa.OSFile:
    """The file for pyarrow, which assumes that a path given as text is UTF-8; raises OSError."""
    return pa.OSFile(os.fsencode(path), mode)


def _check_column(path: Path, schema: pa.Schema, column: str, setting: str) -> None:
    if schema.get_field_index(column) < 0:
        args = {"path": str(path), "column": column, "columns": ", ".join(schema.names), "setting": setting}
        raise InputError("column_missing", **args, **suggested(schema.names))
    kind = schema.field(column).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise InputError("column_not_text", path=str(path), column=column, kind=str(kind), setting=setting)


def texts(
    path: Path, file: pq.ParquetFile, prompt_column: str, response_column: str, turns: str
) -> Iterator[tuple[list[Text], list[Text], list[list[int] | None]]]:
    """Prompts, responses and the starts of turns, a batch at a time; bytes for a text that is not UTF-8.

    Raises InputError, also if the file has fewer or more rows than it declares.
    """
    seen, declared = 0, file.metadata.num_rows
    names = [prompt_column, response_column, *([turns] if has_starts(file, turns) else [])]
    try:
        for batch in file.iter_batches(BATCH_ROWS, columns=names):
            seen += batch.num_rows
            starts = batch.column(turns).to_pylist() if len(names) > 2 else [None] * len(batch)
            yield _texts(batch.column(prompt_column)), _texts(batch.column(response_column)), starts
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from None
    if seen != declared:
        why = Phrase.of("why.rows_declared", declared=declared, seen=seen)
        raise InputError("parquet_bad", path=str(path), why=why)


def has_starts(file: pq.ParquetFile, column: str) -> bool:
    """Whether a file has this column and it holds lists of whole numbers, as written by an import."""
    schema = file.schema_arrow
    if schema.get_field_index(column) < 0:
        return False
    kind = schema.field(column).type
    listed = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return listed and bool(pa.types.is_integer(kind.value_type))


def unreadable(path: Path, error: Exception) -> InputError:
    """The error to raise after a failed read."""
    return InputError("parquet_bad", path=str(path), why=" ".join(str(error).split())[:300])


def _texts(column: pa.Array) -> list[Text]:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    try:
        found: list[Text] = column.to_pylist()
    except UnicodeDecodeError:
        found = [_decoded(raw) for raw in column.cast(pa.large_binary()).to_pylist()]
    return found


def _decoded(raw: bytes | None) -> Text:
    with contextlib.suppress(UnicodeDecodeError, AttributeError):
        return raw.decode("utf-8")  # type: ignore[union-attr]  # None raises AttributeError, which is suppressed
    return raw
