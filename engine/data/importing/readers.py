"""Users' files of any format or encoding, read one record at a time with each record's place.

Anything that cannot be read as a record is yielded as `RefusedError` in its place, so that it is counted.
"""

import contextlib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from engine.contract.messages import InputError
from engine.data import formats
from engine.data.compression import opened_stream
from engine.data.importing.charset import encoding_of
from engine.data.importing.columnar import Table
from engine.data.importing.csvfile import CsvFile
from engine.data.importing.jsonfile import JsonFile
from engine.data.importing.text_stream import CHUNK, decoded
from engine.data.parquet import BATCH_ROWS
from engine.data.shapes.account import FileAccount, ImportNotice
from engine.data.shapes.columns import Read

LOOKED_AT = 20  # lines used to distinguish JSON from CSV
JSON_IN_TABLE = re.compile(r'\{\s*("\s*\w|$)|\[\s*([{\[]|$)')  # no header of a CSV file begins like this
Progress = Callable[[str, int, int], None]
Item = tuple[str, Any]  # place of a record, and the record


@dataclass(frozen=True)
class Wanted:
    """What is requested from a file: its columns by setting, if they were named, and the encoding, if it was."""

    columns: dict[str, str]
    encoding: str = ""
    every: bool = False  # read all columns

    @property
    def names(self) -> Read:
        """The columns to read."""
        return Read(self.columns.values(), every=self.every)


def records(path: Path, wanted: Wanted, account: FileAccount, progress: Progress) -> Iterator[Item]:
    """The records of a file with their places, an error in place of an unreadable one; raises InputError.

    An `ImportNotice` in place of a record reports something without costing a record.
    """
    content = formats.content_of(path)
    formats.require_rows(path, content)
    account.compression = content.compression
    with contextlib.ExitStack() as stack:
        if content.kind in formats.TABLES:
            yield from _table(path, content, wanted, account, progress, stack)
        else:
            yield from _text(path, content.compression, wanted, account, progress)


def _table(
    path: Path, content: formats.Content, wanted: Wanted, account: FileAccount, progress: Progress,
    stack: contextlib.ExitStack,
) -> Iterator[Item]:  # fmt: skip
    account.format = content.kind
    table = Table(path, content, stack)
    yield from _columns(table.columns, wanted, account)
    names = [name for name in dict.fromkeys(table.columns) if name in wanted.names]
    account.leave_out(name for name in table.columns if name not in names)
    names = names or table.columns[:1]
    for number, item in enumerate(table.records(names)):
        if number % BATCH_ROWS == 0:
            progress(str(path), number, table.total or number)
        yield item


def _columns(columns: list[str], wanted: Wanted, account: FileAccount) -> Iterator[Item]:
    """Records a table's columns, noticing duplicates; raises InputError if a named one is missing or duplicated."""
    account.columns = columns
    shown = ", ".join(columns)[:1000]
    for name in sorted(name for name, count in Counter(columns).items() if name and count > 1):
        if name in wanted.names:
            raise InputError("source_column_twice", path=account.path, column=name, columns=shown)
        yield "1", ImportNotice("column_repeated", name)
    for setting, name in wanted.columns.items():
        if name not in columns:
            raise missing_column(account.path, setting, name, columns)


def missing_column(path: str, setting: str, column: str, columns: list[str]) -> InputError:
    """The error to raise if a named column is in no record of a file."""
    shown = ", ".join(columns)[:1000] or "-"
    return InputError("source_column_missing", path=path, column=column, columns=shown, setting=setting)


def _text(path: Path, compression: str, wanted: Wanted, account: FileAccount, progress: Progress) -> Iterator[Item]:
    size = path.stat().st_size
    opener = partial(opened_stream, path, compression, lambda done: progress(str(path), done, size))
    account.encoding = wanted.encoding or encoding_of(str(path), opener)
    with opener() as stream, decoded(stream, account.encoding) as file:
        first = _first_lines(file)
    with opener() as stream, decoded(stream, account.encoding) as file:
        yield from _records(path, file, first, wanted, account)


def _first_lines(file: TextIO) -> list[str]:
    """The first lines that are neither blank nor comments."""
    lines = (line.lstrip("\ufeff \t\r\n") for line in iter(lambda: file.readline(CHUNK), ""))
    return list(islice((line for line in lines if line and not line.startswith(("#", "//"))), LOOKED_AT))


def _is_json(first: list[str], suffix: str) -> bool:
    """Whether a file is JSON: by its first line, or by most of the others if that is damaged."""
    if any(map(JSON_IN_TABLE.match, first[:1])) or (not suffix and first and first[0][0] in "{["):
        return True
    whole = sum(line.startswith('{"') and line.rstrip().endswith(("}", "},")) for line in first[1:])
    return 2 * whole >= len(first) > 1


def _records(path: Path, file: TextIO, first: list[str], wanted: Wanted, account: FileAccount) -> Iterator[Item]:
    suffix = next((suffix for suffix in reversed(path.suffixes) if suffix in (".csv", ".tsv")), "")
    if _is_json(first, suffix):
        yield from JsonFile(file, wanted.names, account).records()
        account.format = account.format or "json"
        return
    csv = CsvFile(file, tabs=suffix == ".tsv")
    account.format = "tsv" if csv.delimiter == "\t" else "csv"
    yield from csv.notices
    yield from _columns(csv.columns, wanted, account)
    yield from csv.records()
