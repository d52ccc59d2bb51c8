"""What rows of a data file hold, as digests, and which rows that a person left out are still those rows."""

import hashlib
import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.contract.leave_out import read_leave_out

if TYPE_CHECKING:
    import pyarrow.parquet as pq

READ_ROWS = 256  # at once
DIGEST_BYTES = 12


def row_digests(path: Path, rows: Iterable[int]) -> dict[int, str]:
    """The digest of all columns of each of these rows; without those that the file does not have; raises InputError."""
    wanted = sorted(set(rows))
    if not wanted:  # pyarrow would take 50 MB
        return {}
    from engine.data import parquet

    return {row: _digest(record) for row, record in _records(path, parquet.opened(path), wanted)}


@dataclass(frozen=True)
class LeftOut:
    """The rows of a data file that are left out, and those listed that are no longer what they were; in order."""

    rows: tuple[int, ...] = ()
    stale: tuple[int, ...] = ()


def left_out_of(path: Path) -> LeftOut:
    """The rows that are left out of a data file, each compared with its digest; raises InputError."""
    listed = read_leave_out(path).digests
    found = row_digests(path, listed)
    rows = tuple(row for row in sorted(listed) if found.get(row) == listed[row])
    return LeftOut(rows, tuple(row for row in sorted(listed) if found.get(row) != listed[row]))


def _records(path: Path, file: "pq.ParquetFile", wanted: list[int]) -> Iterator[tuple[int, Any]]:
    """Some rows as plain values, of which only the row groups that hold them are read."""
    import pyarrow as pa

    from engine.data import parquet

    start = 0
    try:
        for group in range(file.metadata.num_row_groups):
            end = start + file.metadata.row_group(group).num_rows
            inside = _between(wanted, start, end)
            first = start
            for batch in file.iter_batches(READ_ROWS, row_groups=[group]) if inside else ():
                last = first + batch.num_rows
                for row in _between(inside, first, last):
                    yield row, _plain(batch.slice(row - first, 1))
                first = last
                if first > inside[-1]:
                    break
            start = end
    except (pa.ArrowException, OSError) as error:
        raise parquet.unreadable(path, error) from None


def _between(rows: list[int], start: int, end: int) -> list[int]:
    """Those of some sorted numbers that are in a range."""
    return rows[bisect_left(rows, start) : bisect_left(rows, end)]


def _plain(row: Any) -> Any:
    """A row as plain values; if a text of it is not UTF-8, as it is stored."""
    try:
        return row.to_pylist()
    except UnicodeDecodeError:
        return [[bytes(part) for part in column.buffers() if part is not None] for column in row.columns]


def _digest(record: Any) -> str:
    text = json.dumps(record, ensure_ascii=False, sort_keys=True, default=repr)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).hexdigest()
