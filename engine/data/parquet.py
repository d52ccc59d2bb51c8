"""Text columns from a Parquet file, a batch at a time, with any fault of the file described in a sentence."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.contract.messages import InputError, Value
from engine.contract.texts import Phrase
from engine.data.not_parquet import require_parquet
from engine.data.shapes.account import RefusedError
from engine.data.shapes.columns import part_of
from engine.data.shapes.conversation import Conversation
from engine.data.shapes.known import shaped, suggested
from engine.data.shapes.turns import ROLE_KEYS, TEXT_KEYS
from engine.data.text_checks import Text, TextBatch

# A file is read page by page; otherwise pyarrow would hold all columns whole at once.
STREAMED: dict[str, Any] = {"pre_buffer": False, "buffer_size": 1 << 20}
BATCH_ROWS = 1024
CONVERSATIONS = 256  # at once: they are longer than pairs
MESSAGE = ("role", "content")
TOOLS = "tools"
NEXT_TO_MESSAGES = ("system", "tools", "label", "kto_tag", "beyond_text")  # parts that other columns may hold


def opened(path: Path) -> pq.ParquetFile:
    """The file, whose schema can be read; raises InputError."""
    try:
        file = pq.ParquetFile(on_disk(path), page_checksum_verification=True, **STREAMED)
        file.schema_arrow  # noqa: B018  # fails here if it does
    except (pa.ArrowException, OSError) as error:
        require_parquet(path)
        raise unreadable(path, error) from None
    return file


def on_disk(path: Path, mode: str = "rb") -> pa.OSFile:
    """The file for pyarrow, which assumes that a path given as text is UTF-8; raises OSError."""
    return pa.OSFile(os.fsencode(path), mode)


def require_texts(path: Path, file: pq.ParquetFile, columns: Mapping[str, str]) -> None:
    """Raises InputError unless these columns, by their settings, hold text."""
    for setting, column in columns.items():
        kind = _kind(path, file.schema_arrow, column, setting)
        if not _is_text(kind):
            raise InputError("column_not_text", path=str(path), column=column, kind=str(kind), setting=setting)


def require_messages(path: Path, file: pq.ParquetFile, column: str) -> None:
    """Raises InputError unless the column holds lists of objects, or their JSON."""
    kind = _kind(path, file.schema_arrow, column, "messages_column")
    listed = any(is_one(kind) for is_one in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list))
    if not (listed and pa.types.is_struct(kind.value_type)) and not _is_text(kind):
        shown = {"path": str(path), "column": column, "kind": str(kind)[:200], "setting": "messages_column"}
        raise InputError("column_not_messages", **shown)


def _kind(path: Path, schema: pa.Schema, column: str, setting: str) -> pa.DataType:
    if schema.get_field_index(column) < 0:
        args: dict[str, Value] = {"path": str(path), "column": column, "columns": ", ".join(schema.names)}
        turns = turns_columns(schema)
        others = {"messages_column": turns[0]} if turns else {}
        raise InputError("column_missing", **args, setting=setting, **suggested(schema.names), **others)
    kind = schema.field(column).type
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def turns_columns(schema: pa.Schema) -> list[str]:
    """The columns with lists of objects that have a role and a text, by any of their names."""
    return [field.name for field in schema if _holds_turns(field.type)]


def _holds_turns(kind: pa.DataType) -> bool:
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not pa.types.is_struct(kind.value_type):
        return False
    names = {field.name for field in kind.value_type}
    return not names.isdisjoint(ROLE_KEYS) and not names.isdisjoint(TEXT_KEYS)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def texts(
    path: Path, file: pq.ParquetFile, prompt_column: str, response_column: str, turns: str
) -> Iterator[TextBatch]:
    """Prompts, responses and the starts of turns, a batch at a time; bytes for a text that is not UTF-8.

    Raises InputError, also if the file has fewer or more rows than it declares.
    """
    names = [prompt_column, response_column, *([turns] if has_starts(file, turns) else [])]
    for first, batch in _batches(path, file, names):
        starts = batch.column(turns).to_pylist() if len(names) > 2 else [None] * len(batch)
        numbers = range(first, first + len(batch))
        yield TextBatch(_texts(batch.column(prompt_column)), _texts(batch.column(response_column)), starts, numbers)


def conversations(path: Path, file: pq.ParquetFile, column: str) -> Iterator[list[Conversation | RefusedError]]:
    """Conversations of a column of messages, with what other columns say about them, a batch at a time.

    The reason for one that cannot be used is in its place. Raises InputError like `texts`.
    """
    more = [name for name in file.schema_arrow.names if part_of(name) in NEXT_TO_MESSAGES and name != column]
    for _, batch in _batches(path, file, [column, *more], CONVERSATIONS):
        yield [_conversation(record, column) for record in records(batch)]


def are_plain(file: pq.ParquetFile, column: str) -> bool:
    """Whether messages have role and content, or are JSON, and no other column but tools says anything about them."""
    more = {part_of(name) for name in file.schema_arrow.names if name not in (column, TOOLS)}
    if more.intersection(NEXT_TO_MESSAGES):
        return False
    kind = file.schema_arrow.field(column).type
    return not pa.types.is_nested(kind) or all(kind.value_type.get_field_index(name) >= 0 for name in MESSAGE)


def messages(path: Path, file: pq.ParquetFile, column: str) -> Iterator[list[tuple[Any, Any] | RefusedError]]:
    """The messages of rows, and their tools, a batch at a time, as they are but for null fields.

    The reason for a row that cannot be read is in its place. Raises InputError like `texts`.
    """
    names = [column, *([TOOLS] if TOOLS in file.schema_arrow.names else [])]
    for _, batch in _batches(path, file, names, CONVERSATIONS):
        found = records(batch)
        yield [row if isinstance(row, RefusedError) else (row.get(column), row.get(TOOLS)) for row in found]


def _conversation(record: Any, column: str) -> Conversation | RefusedError:
    try:
        if isinstance(record, Mapping):
            record = {("messages" if name == column else name): value for name, value in record.items()}
        made = shaped(record)
        (found,) = made.conversations
    except RefusedError as why:
        return why
    found.notices = made.notices
    return found


def _batches(
    path: Path, file: pq.ParquetFile, names: list[str], rows: int | None = None
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Batches of columns, each with the number of its first row; raises InputError."""
    seen, declared = 0, file.metadata.num_rows
    try:
        for batch in file.iter_batches(rows or BATCH_ROWS, columns=names):
            yield seen, batch
            seen += batch.num_rows
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


def records(batch: pa.RecordBatch) -> Iterator[Any]:
    """The rows of a batch, with UTF-8 bytes as text; an error in place of a row that is not UTF-8.

    Null fields of objects are left out: a column has the fields of all its rows.
    """
    try:
        rows = batch.to_pylist()
    except UnicodeDecodeError:
        rows = [row for place in range(len(batch)) for row in _row(batch.slice(place, 1))]
    nested = [field.name for field in batch.schema if pa.types.is_nested(field.type)]
    binary = any(map(_is_binary, batch.schema.types))
    for row in rows:
        if isinstance(row, dict):
            row |= {name: _without_null(row[name]) for name in nested}
        yield _decoded_cells(row) if binary else row


def _row(batch: pa.RecordBatch) -> list[Any]:
    try:
        return list(batch.to_pylist())
    except UnicodeDecodeError:
        return [RefusedError("row_not_utf8")]


def _without_null(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_null(item) for item in value]
    if isinstance(value, dict):
        return {name: _without_null(item) for name, item in value.items() if item is not None}
    return value


def _is_binary(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _decoded_cells(row: Any) -> Any:
    for name, value in row.items() if isinstance(row, dict) else ():
        if isinstance(value, bytes):
            with contextlib.suppress(UnicodeDecodeError):
                row[name] = value.decode("utf-8")
    return row
