"""Rows into files: all of them into a nameless file first, then those of each part into its own file.

The first file takes the rows as they come; sample and split are chosen by their hashes, and the rows copied from it.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.contract.glances import Form
from engine.contract.import_report import PARTS  # numbered as in a Split
from engine.contract.messages import InputError
from engine.data.importing.messages import MESSAGES, PROMPT, RESPONSE, STAGED, TURNS, Fields, as_messages, record_of
from engine.data.importing.split import Hashes, Split, split
from engine.data.importing.targets import Target, folders_of, replace_all
from engine.data.parquet import STREAMED, on_disk
from engine.data.shapes.conversation import Conversation, Row
from engine.data.text_checks import row_hashes

Entry = Row | Conversation  # a row to write
GROUP_ROWS, GROUP_CHARACTERS = 10_000, 1 << 24
SCHEMA = pa.schema([pa.field(name, pa.string(), nullable=False) for name in (PROMPT, RESPONSE)])
WITH_TURNS = SCHEMA.append(pa.field(TURNS, pa.list_(pa.int32())))  # null for a single turn
WRITTEN_BY = {b"sft-tui": b"data import"}  # in the schema of every file written


@dataclass(frozen=True)
class Choice:
    """Which rows are taken, and the share of them that goes into each file after the first."""

    seed: int
    sample: int = 0  # rows; 0: all
    shares: dict[str, float] = field(default_factory=dict)  # by part


@dataclass(frozen=True)
class RowCounts:
    """Rows by the file that they were written to, and the groups of rows that were divided between files."""

    rows: int
    train_rows: int = 0
    valid_rows: int = 0
    test_rows: int = 0
    divided: int = 0
    divided_largest: int = 0


def write(rows: Iterator[Entry], targets: Sequence[Target], choice: Choice, form: Callable[[], Form]) -> RowCounts:
    """Writes the rows, all files or none, and counts them by part; raises InputError. Their form is asked at the end.

    A part without rows is not written; if its file exists, nothing is written: it may hold rows now trained on.
    """
    try:
        with folders_of(targets), ExitStack() as stack:
            pool = stack.enter_context(tempfile.TemporaryFile(dir=targets[0].path.parent))
            for target in targets:
                target.clear_stale()
                stack.callback(_drop, target)
            staged = _stage(pool, rows)
            shares = [choice.shares.get(part, 0.0) for part in PARTS[1:]]
            parts = split(staged.prompts, staged.groups, choice.seed, choice.sample, shares)
            filled = [target for target in targets if parts.rows(PARTS.index(target.part))]
            if filled:
                _require_absent(target for target in targets if target not in filled)
                _copy(pool, filled, parts, staged, form())
                replace_all(filled)
            train, valid, test = (parts.rows(number) for number in range(len(PARTS)))
            return RowCounts(train + valid + test, train, valid, test, parts.divided, parts.largest)
    except OSError as error:
        raise _unwritable(error, targets) from None


def _require_absent(targets: Iterable[Target]) -> None:
    for target in targets:
        if target.path.exists():
            raise InputError("target_without_rows", path=target.given, setting=target.part)


def written_by_import(path: Path) -> bool:
    """Whether a file was written by an import."""
    with suppress(pa.ArrowException, OSError):
        return (pq.read_schema(on_disk(path)).metadata or {}).get(b"sft-tui") == WRITTEN_BY[b"sft-tui"]
    return False


def _unwritable(error: OSError, targets: Sequence[Target]) -> InputError:
    """The error that names the target: the file that failed may be a temporary one, or one of its folders."""
    failed = str(error.filename or "")
    own = [target for target in targets if target.path.name in Path(failed).name]
    near = [target for target in targets if failed.startswith(str(target.path.parent))]
    target = [*own, *near, *targets][0]
    return InputError("folder_unwritable", path=target.given, why=error.strerror or str(error), setting=target.part)


def _drop(target: Target) -> None:
    with suppress(OSError):  # it already has its final name, or its folder is not a folder
        target.staged.unlink()


@dataclass(frozen=True)
class _Staged:
    """The hashes of all rows' prompts and of their groups, and the columns that they have as pairs, and as messages.

    `at_once` is how many of them are not too large to hold.
    """

    prompts: Hashes
    groups: Hashes
    pairs: pa.Schema
    messages: pa.Schema
    at_once: int


def _stage(pool: IO[bytes], rows: Iterator[Entry]) -> _Staged:
    """Writes all rows to `pool`: pairs, and the others as messages."""
    prompts, groups, with_turns, fields = [], [], False, Fields()
    with pq.ParquetWriter(pool, STAGED, compression="snappy") as writer:
        for batch in _groups(rows):
            records = [_staged(row) for row in batch]
            writer.write_table(pa.Table.from_pylist(records, schema=STAGED))
            with_turns = with_turns or any(isinstance(row, Row) and row.starts for row in batch)
            more = (record for record in records if record[MESSAGES] or record[TURNS])
            for record in as_messages(more):
                fields.note(record)
            prompts.append(
                row_hashes([(row.opening if isinstance(row, Conversation) else row.prompt, "") for row in batch])
            )
            groups.append(row_hashes([(row.opening, "") for row in batch]))
    columns = WITH_TURNS if with_turns else SCHEMA
    at_once = max(1, sum(map(len, groups)) // len(groups))
    return _Staged(np.concatenate(prompts), np.concatenate(groups), columns, fields.schema(), at_once)


def _groups(rows: Iterator[Entry]) -> Iterator[list[Entry]]:
    """The rows in groups that are not too large to hold, of which the last may be empty."""
    group: list[Entry] = []
    size = 0
    for row in rows:
        group.append(row)
        size += sum(len(text) for _, text in row.said)
        if len(group) == GROUP_ROWS or size > GROUP_CHARACTERS:
            yield group
            group, size = [], 0
    yield group


def _staged(row: Entry) -> dict[str, Any]:
    empty = dict.fromkeys(STAGED.names)
    if isinstance(row, Conversation):
        return empty | record_of(row)
    return empty | {PROMPT: row.prompt, RESPONSE: row.response, TURNS: row.starts or None}


def _copy(pool: IO[bytes], targets: Sequence[Target], parts: Split, staged: _Staged, form: Form) -> None:
    columns = staged.messages if form == "messages" else staged.pairs
    with ExitStack() as stack:
        writers: dict[str, Any] = {}
        for target in targets:
            file = stack.enter_context(target.staged.open("xb"))  # never through a link put there by somebody
            made = pq.ParquetWriter(
                file, columns.with_metadata(WRITTEN_BY), compression="zstd", write_page_checksum=True
            )
            writers[target.part] = stack.enter_context(made)
        start = 0
        pool.seek(0)
        wanted = STAGED.names if form == "messages" else columns.names
        for batch in pq.ParquetFile(pool, **STREAMED).iter_batches(staged.at_once, columns=wanted):
            here = parts.parts[start : start + len(batch)]
            start += len(batch)
            for part, writer in writers.items():
                table = _in_form(batch.filter(pa.array(here == PARTS.index(part))), columns, form)
                if len(table):
                    writer.write_table(table.replace_schema_metadata(WRITTEN_BY))


def _in_form(batch: pa.RecordBatch, columns: pa.Schema, form: Form) -> pa.Table:
    """Staged rows as they are written."""
    if form == "messages":
        return pa.Table.from_pylist(list(as_messages(batch.to_pylist())), schema=columns)
    return pa.Table.from_batches([batch]).cast(columns)
