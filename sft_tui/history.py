"""Computes a run's state from its stream, starting from a snapshot if there is one, so a long run opens at once."""

import contextlib
import hashlib
import json
from typing import Any

from engine.contract.bounds import as_json, read_as
from engine.contract.durable import read_json, write_json
from engine.contract.events import Record, without_non_finite
from engine.contract.merged_stream import MergedReader, Places
from engine.contract.rundir import RunDir
from sft_tui.curves import Curves
from sft_tui.run_state import RunState, reduce

VERSION = 7  # of the snapshot


class Follower:
    """State and curves of a run, updated by `poll`."""

    def __init__(self, run_dir: RunDir) -> None:
        self._run_dir = run_dir
        self.state, self.curves, place = _snapshot(run_dir)
        self._saved = place.main.offset
        self._reader = MergedReader(run_dir, place, self.state.attempt)

    def poll(self, most: int = 1 << 62) -> list[Record]:
        """Reads what was written since the last call, about `most` bytes at a time; returns the new records."""
        restarts = self._reader.restarts
        records = self._reader.poll(most)
        if self._reader.restarts > restarts:  # not the same file as before: discard everything
            self.state, self.curves = RunState(), Curves()
        for record in records:
            self.state = reduce(self.state, record)
            self.curves.add(record)
        return records

    @property
    def offset(self) -> int:
        """Bytes of the stream that were read."""
        return self._reader.place.main.offset

    @property
    def begins(self) -> list[int]:
        """Where in the stream the records of the last poll begin, in bytes."""
        return self._reader.begins

    @property
    def restarts(self) -> int:
        """How often the stream turned out to be another file than before."""
        return self._reader.restarts

    @property
    def is_behind(self) -> bool:
        """Whether the stream is ahead of the snapshot, e.g. because the supervisor died before writing its last one."""
        return self.offset != self._saved

    def save(self) -> None:
        """Writes the snapshot; a failure to write it is ignored."""
        parts = {"state": as_json(self.state), "curves": self.curves.to_json()}
        value = without_non_finite({"version": VERSION, "place": self._reader.place.to_json(), **parts})
        with contextlib.suppress(OSError):
            write_json(self._run_dir.snapshot, {"sha256": _sha256(value), **value}, durable=False, compact=True)
            self._saved = self.offset


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _snapshot(run_dir: RunDir) -> tuple[RunState, Curves, Places]:
    """State, curves and stream position of the snapshot, or those of a stream not read yet.

    A snapshot whose hash does not match is ignored: the stream holds the same information.
    """
    value = read_json(run_dir.snapshot)
    try:
        if value.pop("sha256", "") != _sha256(value) or value["version"] != VERSION:
            raise ValueError("not a snapshot of this version")
        return read_as(RunState, value["state"]), Curves.from_json(value["curves"]), Places.from_json(value["place"])
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError):
        return RunState(), Curves(), Places()
