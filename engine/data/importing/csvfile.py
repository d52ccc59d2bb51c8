"""CSV and similar formats, read strictly: if the dialect is in doubt, the header's number of fields decides.

Whatever a strict reader accepts is read as it reads it. A record that does not fit is tried in the dialects that
programs write by mistake, and is refused, with its line, if none fits; then reading continues at the next physical
line, so that an unclosed quote costs only its own line.
"""

import csv
import re
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from engine.data.importing.text_stream import LONGEST_RECORD, TOO_LONG, TextLines
from engine.data.shapes.account import ImportNotice, RefusedError

DELIMITERS = ",\t;|"
SAMPLE_LINES = 200
ESCAPED = re.compile(r'(?<!\\)((?:\\\\)*)\\"')  # a quote after an odd number of backslashes
QUOTE_AFTER_SPACE = re.compile(' +"')
COMMENT = re.compile(r"\s*(#|//)")
Row = list[str]
Item = tuple[str, Any]  # first line of a record, and the record


class CsvFile:
    """The records of a CSV file; `columns` are the names in its header."""

    def __init__(self, file: TextIO, tabs: bool = False) -> None:
        """`tabs`: the file's name indicates that fields are separated by tabs."""
        csv.field_size_limit(LONGEST_RECORD)
        self.lines = TextLines(file)
        self.notices: list[Item] = []
        self.delimiter = self._before_header() or _delimiter(self.lines.ahead(SAMPLE_LINES), tabs)
        edge = re.escape(self.delimiter)
        self._spaced = re.compile(rf'{edge} +"')
        self._enclosed = re.compile(rf'(?:^|{edge}) *"(?:[^"]|"")*"(?:{edge}|\s*$)')
        self.quoting = any(map(self._enclosed.search, self.lines.ahead(SAMPLE_LINES)))  # some fields are quoted
        self.damaged = False  # inside what may be the rest of a broken record
        self.columns = self._header()

    def _before_header(self) -> str:
        """Skips comments and blank lines; returns the delimiter named by Excel's `sep=`."""
        for line in self.lines:
            said = re.fullmatch(r"\ufeff?sep=(.)\s*", line)
            if said:
                return said[1]
            if COMMENT.match(line) and not any(delimiter in line for delimiter in DELIMITERS):
                self.notices.append((str(self.lines.number), ImportNotice("comment_line")))
            elif line.strip("\ufeff \t\r\n"):
                self.lines.back([line])
                break
        return ""

    def _header(self) -> list[str]:
        names = self._trial(skipinitialspace=True)
        line = self.lines.taken[0] if self.lines.taken else ""
        if names is None and line:
            self.lines.back(self.lines.taken[1:])
            names = line.split(self.delimiter)
        self.skip_spaces = f"{self.delimiter} " in line and self.delimiter != "\t"
        return [name.strip("\ufeff \t\r\n") for name in names or ()]

    def records(self) -> Iterator[Item]:
        """The records, or in place of a broken one its error."""
        lines, names, width = self.lines, self.columns, len(self.columns)
        reader = self._reader(lines, skipinitialspace=self.skip_spaces)
        while True:
            lines.taken.clear()
            start = lines.number + 1
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error:
                row = None
            if TOO_LONG in lines.taken:
                row = None
            if row == []:
                continue
            if self.damaged or row is None or len(row) != width or not self._plain():
                try:
                    row = self._row_or_refusal(row)
                except RefusedError as refused:
                    yield str(start), refused
                    continue
            if row:
                yield str(start), dict(zip(names, row, strict=True))

    def _plain(self) -> bool:
        """Whether the lines taken have no quote in them, and so can be read in only one way."""
        taken = self.lines.taken
        return len(taken) == 1 and '"' not in taken[0]

    def _reader(self, source: Iterator[str], **dialect: Any) -> Iterator[Row]:
        return csv.reader(source, delimiter=self.delimiter, strict=True, **dialect)

    def _trial(self, change: Callable[[str], str] | None = None, **dialect: Any) -> Row | None:
        """The next record in a dialect, its lines changed first; None if it breaks the dialect's rules."""
        self.lines.taken.clear()
        source = map(change, self.lines) if change else self.lines
        try:
            return next(self._reader(source, **dialect), None)
        except csv.Error:
            return None

    def _row_or_refusal(self, row: Row | None) -> Row:
        """The row of a doubtful record, empty if it is blank; raises RefusedError.

        The next line to be read is then the one after the record, or after its first line if it is refused.
        """
        taken, width = list(self.lines.taken), len(self.columns)
        if taken[:1] == [TOO_LONG]:
            self.lines.back(taken[1:])
            raise RefusedError("record_long")
        text = "".join(taken)
        odd = text.count('"') % 2 == 1
        if row is not None and len(row) == width and not (self.damaged and odd):
            self.damaged = False
            self.quoting = self.quoting or bool(self._enclosed.search(text))
            return self._without_spaces_before_quotes(row, taken) if any(map(QUOTE_AFTER_SPACE.match, row)) else row
        if not text.strip():
            return []
        if row is not None and len(row) > width and not any(row[width:]):  # extra delimiters at the ends of lines
            return row[:width]
        if self.damaged:
            self.lines.back(taken[1:])
            raise self._refusal(row, taken)
        other = self._other(taken)
        if other is None:
            self.damaged = True
            raise self._refusal(row, taken)
        return other

    def _without_spaces_before_quotes(self, row: Row, taken: list[str]) -> Row:
        """A row with quotes after spaces, which no strict writer writes, as if the spaces were absent."""
        self.lines.back(taken)
        other = self._trial(skipinitialspace=True)
        if other is None or len(other) != len(row) or self.lines.taken != taken:
            self.lines.back(self.lines.taken)
            for _ in taken:
                next(self.lines)
            return row
        pairs = zip(row, other, strict=True)
        return [new if QUOTE_AFTER_SPACE.match(field) else field for field, new in pairs]

    def _other(self, taken: list[str]) -> Row | None:
        """The record in a dialect that gives it as many fields as the header has; None if there is none.

        If no dialect fits, only the first line stays taken.
        """
        first, trials = taken[0], list[dict[str, Any]]()
        if self._spaced.search(first):
            trials.append({"skipinitialspace": True})
        if '\\"' in first:
            trials += [{"change": _unescaped}, {"change": _unescaped, "skipinitialspace": True}]
        self.lines.back(taken)
        for trial in trials:
            row = self._trial(**trial)
            if row is not None and len(row) == len(self.columns) and TOO_LONG not in self.lines.taken:
                return row
            self.lines.back(self.lines.taken)
        next(self.lines)
        return self._literal(first)

    def _literal(self, line: str) -> Row | None:
        """A line with its quotes taken literally, if the file has no quoted fields and the next line is complete."""
        fields = line.rstrip("\r\n").split(self.delimiter)
        enclosed = any(len(field) > 1 and field[0] == field[-1] == '"' for field in fields)
        if self.quoting or enclosed or len(fields) != len(self.columns):
            return None
        following = "".join(self.lines.ahead(1))
        alone = following.count(self.delimiter) == len(fields) - 1
        return fields if alone or not following.strip() else None

    def _refusal(self, row: Row | None, taken: list[str]) -> RefusedError:
        if COMMENT.match(taken[0]):
            return RefusedError("comment_line")
        if row is None or len(taken) > 1 or len(row) == len(self.columns):
            return RefusedError("quote_stray")
        return RefusedError("field_count", f"{len(row)}/{len(self.columns)}")


def _delimiter(sample: list[str], tabs: bool) -> str:
    """The delimiter that gives most of the first lines as many fields as the header."""
    if not sample:
        return ","

    def fit(delimiter: str) -> tuple[float, bool, int]:
        header, *rows = (_fields(line, delimiter) for line in sample)
        names = len(header or ())
        fitting = sum(row is not None and len(row) == names for row in rows) / max(len(rows), 1)
        return fitting if names > 1 else -1.0, tabs and delimiter == "\t", names

    return max(DELIMITERS, key=fit)


def _fields(line: str, delimiter: str) -> Row | None:
    """The fields of a single line; None if it breaks the rules or ends inside a quoted field."""
    try:
        return next(csv.reader([line], delimiter=delimiter, strict=True), [])
    except csv.Error:
        return None


def _unescaped(line: str) -> str:
    return ESCAPED.sub(r'\1""', line)
