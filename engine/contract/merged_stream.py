"""The streams of a run's ranks as one: that of rank 0, and what ranks of other machines report in their own."""

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from engine.contract.events import MAX_LINE_BYTES, Heartbeat, Record, RunEnded
from engine.contract.messages import InputError
from engine.contract.rundir import RunDir
from engine.contract.stream import EventReader, Place, end_of, newest

LOOK_SECONDS = 2.0  # between looks for streams of other ranks
HEARTBEAT = b'"kind":"%s"' % Heartbeat.kind.encode()
KIND_WITHIN = 400  # the kind stands within this many bytes of a line
MOST_STREAMS = 10_000


@dataclass(frozen=True)
class Places:
    """How far the streams of a run were read: rank 0's, and the others by the names of their files."""

    main: Place = field(default_factory=Place)
    others: dict[str, Place] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        others = {name: place.to_json() for name, place in self.others.items()}
        return {**self.main.to_json(), **({"others": others} if others else {})}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """The places that `to_json` described; raises ValueError, TypeError, KeyError or AttributeError."""
        others = {name: Place.from_json(place) for name, place in value.get("others", {}).items()}
        return cls(Place.from_json({name: part for name, part in value.items() if name != "others"}), others)


class MergedReader:
    """Reads the streams of a run as they grow: with rank 0's alone, just as an EventReader does.

    Records of each stream keep their order. Those of other ranks come after what rank 0 has written so far, without
    their heartbeats, and only if they belong to the newest attempt; their times say nothing, as clocks differ.
    """

    def __init__(self, run_dir: RunDir, places: Places | None = None, attempt: int = 0) -> None:
        """`attempt` is the newest one before `places`."""
        places = places or Places()
        self._run_dir = run_dir
        self._main = EventReader(run_dir.events, places.main)
        self._others: dict[str, EventReader] = {}
        self._known = dict(places.others)
        self._looked_at = float("-inf")
        self._attempt = attempt
        self._early: list[Record] = []  # of an attempt of which rank 0 has written nothing yet
        self.begins: list[int] = []  # where in rank 0's stream the last poll's records begin, or would

    @property
    def place(self) -> Places:
        """How far complete lines were read."""
        read = {name: reader.place for name, reader in self._others.items()}
        return Places(self._main.place, {**self._known, **read})

    @property
    def restarts(self) -> int:
        """How often what was read of rank 0's stream became invalid."""
        return self._main.restarts

    def poll(self, most: int = 1 << 62) -> list[Record]:
        """The records written since the last call, about `most` bytes of each stream; raises InputError of rank 0's."""
        restarts, before = self._main.restarts, self._main.place.offset
        records = self._main.poll(most)
        self.begins = list(self._main.begins)
        if self._main.restarts > restarts:  # the others belong to the stream that is gone
            self._others, self._known, self._early, self._attempt = {}, {}, [], 0
        self._attempt = max((record.envelope.attempt for record in records), default=self._attempt)
        if self._main.place.offset - before + MAX_LINE_BYTES >= most:  # there may be more of it, which comes first
            return records
        found = [*self._early, *self._of_others(most)]
        self._early = [record for record in found if record.envelope.attempt > self._attempt]
        for record in found:
            if record.envelope.attempt == self._attempt:
                records.append(replace(record, envelope=replace(record.envelope, mono=0.0)))
                self.begins.append(max(0, self._main.place.offset - 1))
        return records

    def _of_others(self, most: int) -> list[Record]:
        if time.monotonic() - self._looked_at > LOOK_SECONDS:
            self._looked_at = time.monotonic()
            for path in self._run_dir.other_events()[:MOST_STREAMS]:
                if path.name not in self._others:
                    self._others[path.name] = _reader(path, self._known.get(path.name))
        found: list[Record] = []
        for reader in self._others.values():
            try:
                found += reader.poll(most)
            except InputError:  # another file in its place says nothing of the run
                continue
        return found


def _reader(path: Path, place: Place | None) -> EventReader:
    return EventReader(path, place, wanted=lambda line: HEARTBEAT not in line[:KIND_WITHIN])


def newest_has_ended(run_dir: RunDir) -> bool:
    """Whether a stream of a run has the end of its newest attempt; reads only their ends; raises InputError."""
    _, found = newest([record for path in run_dir.all_events() for record in end_of(path)])
    return any(isinstance(event, RunEnded) for event in found)
