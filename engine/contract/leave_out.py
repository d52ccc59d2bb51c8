"""The rows of a data file that a person left out of training: `FILE.leave-out.json` next to it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from engine.contract.bounds import REST, Count, Longest, as_json, read_as
from engine.contract.durable import write_json
from engine.contract.files import read_linked, reason
from engine.contract.messages import InputError

SUFFIX = ".leave-out.json"
MOST_LEFT_OUT = 1 << 16
Digest = Annotated[str, Longest(64)]


@dataclass(frozen=True)
class LeftOutRow:
    """A row, counted from 0, and the digest of what it held when it was left out."""

    row: Count
    digest: Digest


@dataclass(frozen=True)
class LeaveOut:
    """The content of the file: the rows that are left out, in order."""

    rows: Annotated[tuple[LeftOutRow, ...], Longest(MOST_LEFT_OUT)] = ()
    rest: dict[str, Any] = field(default_factory=dict, metadata=REST)

    @property
    def digests(self) -> dict[int, str]:
        """The digest of each row."""
        return {one.row: one.digest for one in self.rows}

    def with_rows(self, digests: Mapping[int, str]) -> "LeaveOut":
        """The same with more rows; raises InputError if they are too many."""
        found = {**self.digests, **digests}
        if len(found) > MOST_LEFT_OUT:
            raise InputError("leave_out_many", most=MOST_LEFT_OUT)
        return replace(self, rows=tuple(LeftOutRow(row, found[row]) for row in sorted(found)))

    def without(self, rows: Iterable[int]) -> "LeaveOut":
        """The same without some rows."""
        gone = set(rows)
        return replace(self, rows=tuple(one for one in self.rows if one.row not in gone))


def leave_out_path(data_file: Path) -> Path:
    """The file that lists the rows of a data file that are left out."""
    return data_file.with_name(data_file.name + SUFFIX)


def read_leave_out(data_file: Path) -> LeaveOut:
    """The rows of a data file that are left out, none without a list; raises InputError if it cannot be used."""
    path = leave_out_path(data_file)
    try:
        return read_as(LeaveOut, json.loads(read_linked(path)))
    except FileNotFoundError:
        return LeaveOut()
    except OSError as error:
        why: Any = reason(error)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        why = str(error)[:200]
    raise InputError("leave_out_bad", file=str(path), why=why)


def write_leave_out(data_file: Path, listed: LeaveOut) -> None:
    """Writes the list of a data file, or removes it if it has become empty; raises InputError."""
    path = leave_out_path(data_file)
    try:
        if listed.rows or listed.rest:
            write_json(path, as_json(listed))
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise InputError("leave_out_unwritable", file=str(path), why=reason(error)) from None
