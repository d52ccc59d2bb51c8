"""Rows into files: all of them into a nameless file first, then those of each part into its own file.

The first file takes the rows as they come; sample and split are chosen by their hashes, and the rows copied from it.
"""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.contract.import_report import PARTS  # numbered as in a Split
from engine.contract.inputs import USUAL_COLUMNS
from engine.contract.messages import InputError
from engine.data.importing.split import Hashes, Split, split
from engine.data.importing.targets import Target, folders_of, replace_all
from engine.data.parquet import STREAMED, on_disk
from engine.data.shapes.conversation import Row, turns_column
from engine.data.text_checks import row_hashes

GROUP_ROWS = 10_000
SCHEMA = pa.schema([pa.field(name, pa.string(), nullable=False) for name in USUAL_COLUMNS.values()])
TURNS = turns_column(USUAL_COLUMNS["prompt_column"])
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


def write(rows: Iterator[Row], targets: Sequence[Target], choice: Choice) -> RowCounts:
    """Writes the rows, all files or none, and counts them by part; raises InputError.

    A part without rows is not written; if its file exists, nothing is written: it may hold rows now trained on.
    """
    try:
        with folders_of(targets), ExitStack() as stack:
            pool = stack.enter_context(tempfile.TemporaryFile(dir=targets[0].path.parent))
            for target in targets:
                target.clear_stale()
                stack.callback(_drop, target)
            prompts, groups, with_turns = _stage(pool, rows)
            shares = [choice.shares.get(part, 0.0) for part in PARTS[1:]]
            parts = split(prompts, groups, choice.seed, choice.sample, shares)
            filled = [target for target in targets if parts.rows(PARTS.index(target.part))]
            if filled:
                _require_absent(target for target in targets if target not in filled)
                _copy(pool, filled, parts, WITH_TURNS if with_turns else SCHEMA)
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
    folder = targets[0].path.parent
    path = str(error.filename or folder)
    target = next((target for target in targets if path.startswith(str(target.path.parent))), targets[0])
    return InputError("folder_unwritable", path=path, why=error.strerror or str(error), setting=target.part)


def _drop(target: Target) -> None:
    with suppress(OSError):  # it already has its final name, or its folder is not a folder
        target.staged.unlink()


def _stage(pool: IO[bytes], rows: Iterator[Row]) -> tuple[Hashes, Hashes, bool]:
    """Writes all rows to `pool`; the hashes of their prompts and of their groups, and whether any has earlier turns."""
    prompts, groups, with_turns = [], [], False
    batch: list[Row] = []
    with pq.ParquetWriter(pool, WITH_TURNS, compression="snappy") as writer:

        def put() -> None:
            starts = [row.starts or None for row in batch]
            columns = [[row.prompt for row in batch], [row.response for row in batch], starts]
            writer.write_table(pa.table(columns, schema=WITH_TURNS))
            prompts.append(row_hashes([(row.prompt, "") for row in batch]))
            groups.append(row_hashes([(row.opening, "") for row in batch]))
            batch.clear()

        for row in rows:
            batch.append(row)
            with_turns = with_turns or bool(row.starts)
            if len(batch) == GROUP_ROWS:
                put()
        put()
    return np.concatenate(prompts), np.concatenate(groups), with_turns


def _copy(pool: IO[bytes], targets: Sequence[Target], parts: Split, columns: pa.Schema) -> None:
    schema = columns.with_metadata(WRITTEN_BY)
    with ExitStack() as stack:
        writers: dict[str, Any] = {}
        for target in targets:
            file = stack.enter_context(target.staged.open("xb"))  # never through a link put there by somebody
            made = pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True)
            writers[target.part] = stack.enter_context(made)
        start = 0
        pool.seek(0)
        for batch in pq.ParquetFile(pool, **STREAMED).iter_batches(GROUP_ROWS, columns=columns.names):
            here = parts.parts[start : start + len(batch)]
            start += len(batch)
            for part, writer in writers.items():
                table = pa.Table.from_batches([batch]).filter(pa.array(here == PARTS.index(part)))
                if len(table):
                    writer.write_table(table.replace_schema_metadata(WRITTEN_BY))
