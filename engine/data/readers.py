"""Files as people have them, read one record at a time with each record's place, whatever their format or encoding.

A record that cannot be read is yielded as `RefusedError` in its place, so that the reader of records can count it.
"""

import codecs
import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from engine.data.account import FileAccount, RefusedError
from engine.data.shapes import COLUMNS
from engine.parquet import BATCH_ROWS, opened, unreadable

CHUNK = 1 << 20  # characters read at a time
LONGEST_RECORD = 64 << 20  # characters
ENCODINGS = ("utf-8", "gb18030")
BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
Progress = Callable[[str, int, int], None]


def records(path: Path, asked: tuple[str, str], found: FileAccount, progress: Progress) -> Iterator[tuple[str, Any]]:
    """The records of a file with their places; an error in the place of a record that cannot be read."""
    with path.open("rb") as first:
        start = first.read(4)
    if start == b"PAR1" or path.suffix == ".parquet":
        found.format = "parquet"
        yield from _parquet(path, asked, progress)
        return
    encoding = _encoding(path)
    found.encoding = encoding
    with path.open("rb") as raw, io.TextIOWrapper(raw, encoding, errors="surrogateescape", newline="") as file:
        head = file.read(CHUNK)
        kind = _format(path, head)
        found.format = kind
        file.seek(0)
        reader = {"json": _array, "jsonl": _lines, "csv": _csv, "tsv": _csv}[kind]
        size = path.stat().st_size
        for number, item in enumerate(reader(file)):
            if number % BATCH_ROWS == 0:
                progress(str(path), raw.tell(), size)
            yield item


def _encoding(path: Path) -> str:
    """The first encoding in which the whole file can be read; utf-8 where there is none."""
    with path.open("rb") as file:
        start = file.read(4)
        for bom, name in BOMS.items():
            if start.startswith(bom):
                return name
        for name in ENCODINGS:
            file.seek(0)
            decoder = codecs.getincrementaldecoder(name)()
            try:
                while data := file.read(CHUNK):
                    decoder.decode(data)
                decoder.decode(b"", final=True)
                return name
            except UnicodeDecodeError:
                continue
    return "utf-8"


def _format(path: Path, head: str) -> str:
    first = head.lstrip("\ufeff \t\r\n")[:1]
    if path.suffix == ".tsv":
        return "tsv"
    if path.suffix == ".csv" or first not in ("[", "{"):
        return "csv"
    if first == "[":
        return "json"
    line = head.lstrip("\ufeff \t\r\n").splitlines()[0]
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return "json" if re.search(r'"data"\s*:\s*\[', head) else "jsonl"
    return "json" if isinstance(value, dict) and isinstance(value.get("data"), list) else "jsonl"


def _lines(file: io.TextIOWrapper) -> Iterator[tuple[str, Any]]:
    number = 0
    while line := file.readline(LONGEST_RECORD):
        number += 1
        text = line.strip("\ufeff \t\r\n")
        if text:
            yield str(number), _json(text)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return RefusedError("json_broken")


def _array(file: io.TextIOWrapper) -> Iterator[tuple[str, Any]]:
    """The members of an array, or of the array under "data": decoded one after the other from a window of the text."""
    decode, window, number = json.JSONDecoder().raw_decode, file.read(CHUNK), 0
    opening = re.search(r'"data"\s*:\s*\[', window) if window.lstrip("\ufeff \t\r\n").startswith("{") else None
    at = opening.end() if opening else window.index("[") + 1
    while True:
        gap = re.compile(r"[\s,]*").match(window, at)
        at = gap.end() if gap else at
        if window[at : at + 1] == "]":
            return
        try:
            record, at = decode(window, at)
        except RecursionError:
            yield str(number + 1), RefusedError("json_broken")
            return
        except ValueError:
            more = file.read(max(CHUNK, len(window) - at))
            if not more or len(window) - at > LONGEST_RECORD:
                yield str(number + 1), RefusedError("json_broken")
                return
            window, at = window[at:] + more, 0
            continue
        number += 1
        yield str(number), record
        if at > CHUNK:
            window, at = window[at:], 0


def _csv(file: io.TextIOWrapper) -> Iterator[tuple[str, Any]]:
    head = file.readline(CHUNK)
    file.seek(0)
    csv.field_size_limit(LONGEST_RECORD)
    delimiter = max(",\t;", key=head.count)
    reader = csv.DictReader((line.replace("\0", "") for line in file), delimiter=delimiter, strict=False)
    if reader.fieldnames:
        reader.fieldnames = [str(name).strip("\ufeff ") for name in reader.fieldnames]
    while True:
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield str(reader.line_num), RefusedError("csv_broken")
            continue
        yield str(reader.line_num), record


def _parquet(path: Path, asked: tuple[str, str], progress: Progress) -> Iterator[tuple[str, Any]]:
    file = opened(path, {})
    try:
        names = set(file.schema_arrow.names)
        columns = sorted(asked if names.issuperset(asked) else names & COLUMNS)
        row, total = 0, file.metadata.num_rows
        for batch in file.iter_batches(BATCH_ROWS, columns=columns):
            progress(str(path), row, total)
            for record in batch.to_pylist():
                row += 1
                yield str(row - 1), record
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from None
