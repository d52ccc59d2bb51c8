"""The log lines that a screen holds: all notes and warnings of the run, and its first and newest steps."""

import heapq
from collections import deque
from collections.abc import Iterable
from operator import attrgetter
from typing import NamedTuple

from engine.contract import events
from engine.contract.events import Record
from engine.contract.rundir import RunDir
from engine.contract.stream import EventReader
from sft_tui.event_text import SILENT

MOST_STEPS = 5000  # first lines, and as many newest ones
MOST_NOTES = 20_000  # a run of a million steps has about 5,000
PAST_BYTES = 1 << 20  # read at a time
STEP_BYTES = 2 << 20  # before the part read first: its steps are shown; earlier ones, after the first, only counted
KIND_WITHIN = 400  # the kind stands within this many bytes of a line
STEP, *UNSHOWN = (b'"kind":"%s"' % kind.encode() for kind in (events.Step.kind, *SILENT))


class LogLine(NamedTuple):
    """One line of the log: time of day, level (step, note, data, warning, error), and text."""

    at: str
    level: str
    text: str
    number: int = 0  # increases from line to line


class Gap(NamedTuple):
    """Lines that are not held: their count, and the number of the first line after them."""

    lines: int = 0
    before: int = 0


class Earlier(NamedTuple):
    """The parts of a log that are not held, for notes and for steps, and the share of it read so far."""

    notes: Gap = Gap()
    steps: Gap = Gap()
    read: float = 1.0


class Held:
    """Lines of one kind in order: the first ones, a gap if there were too many, and the newest ones.

    They may come in two parts: newer lines by `add`, and lines from before all of those by `add_earlier`.
    """

    def __init__(self, most: int) -> None:
        self._most = most  # first lines, and as many newest ones
        self._first: list[LogLine] = []
        self._past: deque[LogLine] = deque()  # after the gap, and before everything given to `add`
        self._new: deque[LogLine] = deque()
        self.dropped = 0

    def add(self, line: LogLine, *, begun: bool) -> None:
        """Appends a newer line; `begun` says that no earlier lines are still to come."""
        self._new.append(line)
        oldest = self._over()
        if oldest is not None and begun and not self.dropped and len(self._first) < self._most:
            self._first.append(oldest)
        else:
            self.dropped += oldest is not None

    def add_earlier(self, line: LogLine, *, behind: bool) -> None:
        """Appends a line from before everything given to `add`; `behind` says that lines before it were left out."""
        if not self.dropped and not behind and len(self._first) < self._most:
            self._first.append(line)
            return
        self._past.append(line)
        self.dropped += self._over() is not None

    def _over(self) -> LogLine | None:
        """Removes the oldest line after the gap if there are too many."""
        if len(self._past) + len(self._new) <= self._most:
            return None
        return (self._past or self._new).popleft()

    def lines(self) -> list[LogLine]:
        """All lines held."""
        return [*self._first, *self._past, *self._new]

    def gap(self, more: int = 0) -> Gap:
        """The gap, including `more` lines that were never given."""
        after = next(iter((*self._past, *self._new)), None)
        return Gap(self.dropped + more, after.number if after else 1 << 60)


class Log:
    """A bounded number of lines: steps never displace a note or a warning, and nothing displaces the beginning."""

    def __init__(self) -> None:
        self._notes, self._steps = Held(MOST_NOTES), Held(MOST_STEPS)
        self._next, self._next_past = 0, -(1 << 60)
        self.begun = True  # no earlier lines are still to come
        self.steps_passed = 0  # steps of the earlier part that were only counted

    def add(self, lines: Iterable[LogLine]) -> None:
        """Appends newer lines."""
        for line in lines:
            self._of(line).add(line._replace(number=self._next), begun=self.begun)
            self._next += 1

    def add_earlier(self, lines: Iterable[LogLine]) -> None:
        """Appends lines that precede everything given to `add`, in order."""
        for line in lines:
            behind = line.level == "step" and self.steps_passed > 0
            self._of(line).add_earlier(line._replace(number=self._next_past), behind=behind)
            self._next_past += 1

    def _of(self, line: LogLine) -> Held:
        return self._steps if line.level == "step" else self._notes

    def lines(self) -> tuple[LogLine, ...]:
        """All lines held, in order."""
        return tuple(heapq.merge(self._notes.lines(), self._steps.lines(), key=attrgetter("number")))

    def earlier(self, read: float) -> Earlier:
        """What is not held, when the share `read` of the log was read."""
        return Earlier(self._notes.gap(), self._steps.gap(self.steps_passed), read)


class Past:
    """The beginning of a stream up to an offset: read in pieces, most of its steps skipped without decoding."""

    def __init__(self, run_dir: RunDir, until: int) -> None:
        self._until = until
        self._reader = EventReader(run_dir.events, wanted=self._wanted)
        self._offset = 0
        self._steps = 0  # read so far
        self.steps_passed = 0

    @property
    def share(self) -> float:
        """The share that was read."""
        return min(1.0, self._offset / self._until) if self._until else 1.0

    def read(self) -> list[Record]:
        """The next piece, with its steps only if they are among the first or near the end."""
        piece = min(PAST_BYTES, self._until - self._offset)
        records = self._reader.poll(piece)
        self._offset += piece
        return records

    def _wanted(self, line: bytes) -> bool:
        head = line[:KIND_WITHIN]
        if STEP in head:
            if self._steps >= MOST_STEPS and self._until - self._offset > STEP_BYTES:
                self.steps_passed += 1
                return False
            self._steps += 1
        return not any(kind in head for kind in UNSHOWN)
