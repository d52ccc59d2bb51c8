"""Rows that a person leaves out of training, and takes back: the list next to the data file."""

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.contract.facts import RowDigests
from engine.contract.leave_out import read_leave_out, write_leave_out
from engine.contract.messages import InputError
from engine.contract.requests import DigestsRequest
from sft_tui.preflight import ask_engine


@dataclass(frozen=True)
class Listed:
    """A row that is listed, and whether the file still has it as it was."""

    row: int
    stale: bool


def leave_out(data_file: Path, rows: Sequence[int]) -> None:
    """Adds rows, counted from 0, to the list; raises InputError if the file does not have one of them."""
    found = _digests(data_file, rows)
    missing = [row for row in rows if str(row) not in found.digests]
    if missing:
        raise InputError("row_unknown", path=str(data_file), row=missing[0], last=found.rows - 1)
    digests = {row: found.digests[str(row)] for row in rows}
    with _alone(data_file):
        write_leave_out(data_file, read_leave_out(data_file).with_rows(digests))


def take_back(data_file: Path, rows: Sequence[int] = ()) -> int:
    """Takes rows off the list, or all of them if none is named; returns how many it had of them."""
    with _alone(data_file):
        listed = read_leave_out(data_file)
        left = listed.without(rows or listed.digests)
        write_leave_out(data_file, left)
    return len(listed.rows) - len(left.rows)


def listed_rows(data_file: Path) -> list[Listed]:
    """The rows that are listed, each compared with the file; raises InputError."""
    digests = read_leave_out(data_file).digests
    if not digests:
        return []
    found = _digests(data_file, sorted(digests)).digests
    return [Listed(row, found.get(str(row)) != digests[row]) for row in sorted(digests)]


@contextlib.contextmanager
def _alone(data_file: Path) -> Iterator[None]:
    """Keeps a screen or a command elsewhere from changing the list in between, where the file system has locks."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            fd = os.open(data_file.parent, os.O_RDONLY | os.O_DIRECTORY)
            held.callback(os.close, fd)
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield


def _digests(data_file: Path, rows: Sequence[int]) -> RowDigests:
    try:
        return ask_engine.ask(DigestsRequest(str(data_file), tuple(rows)), RowDigests)
    except ask_engine.InspectorDied as died:
        raise InputError(f"reader_{died.cause}", path=str(data_file), why=died.why) from None
