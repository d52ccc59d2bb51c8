"""The lines of a run's log that a screen holds: all notes and warnings of the run, and the newest of its steps."""

import heapq
from collections import deque
from collections.abc import Iterable
from operator import attrgetter
from typing import NamedTuple

from engine.contract.events import Record
from engine.contract.rundir import RunDir
from engine.contract.stream import EventReader

MOST_STEPS = 5000
MOST_NOTES = 20_000  # of a run of a million steps there are about 5,000
PAST_BYTES = 1 << 20  # read at a time
STEP_BYTES = 2 << 20  # before what was read first: steps in it are shown, those further back are counted
KIND_WITHIN = 400  # bytes of a line
STEP, UNSHOWN = b'"kind":"step"', (b'"kind":"host"', b'"kind":"gpu"', b'"kind":"heartbeat"', b'"kind":"phase"')


class LogLine(NamedTuple):
    """One line of the log: when (hours to seconds), how grave (step, note, data, warning, error), and the text."""

    at: str
    level: str
    text: str
    number: int = 0  # grows from line to line


class Earlier(NamedTuple):
    """What of a log is not held: notes and steps, and how much of it was read so far."""

    notes: int = 0
    steps: int = 0
    read: float = 1.0


class Held:
    """Lines of one kind: those that came, and those from before them that were read later; the oldest go first."""

    def __init__(self, most: int) -> None:
        self._new: deque[LogLine] = deque(maxlen=most)
        self._past: deque[LogLine] = deque(maxlen=most)
        self._full = False  # so that nothing from before has room
        self.dropped = 0

    def add(self, line: LogLine) -> None:
        """Appends a newer line."""
        if len(self._new) == self._new.maxlen:
            self.dropped += 1 + len(self._past)
            self._past.clear()
            self._full = True
        self._new.append(line)

    def add_earlier(self, line: LogLine) -> None:
        """Appends a line from before all that `add` was given."""
        self.dropped += self._full or len(self._past) == self._past.maxlen
        if not self._full:
            self._past.append(line)

    def lines(self) -> list[LogLine]:
        """All of them, in their order."""
        return [*self._past, *self._new]


class Log:
    """Lines of bounded number: steps never push out a note or a warning."""

    def __init__(self) -> None:
        self._notes, self._steps = Held(MOST_NOTES), Held(MOST_STEPS)
        self._next, self._next_past = 0, -(1 << 60)
        self.steps_passed = 0  # of what was read later, that were only counted

    def add(self, lines: Iterable[LogLine]) -> None:
        """Appends newer lines."""
        for line in lines:
            self._of(line).add(line._replace(number=self._next))
            self._next += 1

    def add_earlier(self, lines: Iterable[LogLine]) -> None:
        """Appends lines that come before all that `add` was given, in their own order."""
        for line in lines:
            self._of(line).add_earlier(line._replace(number=self._next_past))
            self._next_past += 1

    def _of(self, line: LogLine) -> Held:
        return self._steps if line.level == "step" else self._notes

    def lines(self) -> tuple[LogLine, ...]:
        """All lines that are held, in their order."""
        return tuple(heapq.merge(self._notes.lines(), self._steps.lines(), key=attrgetter("number")))

    def earlier(self, read: float) -> Earlier:
        """What is not held, where `read` of the whole was read."""
        return Earlier(self._notes.dropped, self._steps.dropped + self.steps_passed, read)


class Past:
    """The beginning of a stream, up to a place in it: read in pieces, and most of its steps passed over undecoded."""

    def __init__(self, run_dir: RunDir, until: int) -> None:
        self._until = until
        self._reader = EventReader(run_dir.events, wanted=self._wanted)
        self._offset = 0
        self.steps_passed = 0

    @property
    def share(self) -> float:
        """How much of it was read."""
        return min(1.0, self._offset / self._until) if self._until else 1.0

    def read(self) -> list[Record]:
        """The next piece; its steps only where they are near the end."""
        piece = min(PAST_BYTES, self._until - self._offset)
        records = self._reader.poll(piece)
        self._offset += piece
        return records

    def _wanted(self, line: bytes) -> bool:
        head = line[:KIND_WITHIN]
        if STEP in head and self._until - self._offset > STEP_BYTES:
            self.steps_passed += 1
            return False
        return not any(kind in head for kind in UNSHOWN)
