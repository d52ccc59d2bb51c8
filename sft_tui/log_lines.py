"""The log lines that a screen holds: all notes and warnings of the run, and its first and newest steps and samples."""

import heapq
from collections import deque
from collections.abc import Iterable
from operator import attrgetter
from typing import NamedTuple

from engine.contract import events
from engine.contract.events import Record
from engine.contract.rundir import RunDir
from engine.contract.scores import score_phrase
from engine.contract.stream import EventReader
from engine.contract.texts import Lang
from sft_tui import event_text
from sft_tui.event_text import SILENT
from sft_tui.run_state import RunState
from sft_tui.text import safe

MOST_STEPS = 5000  # first lines, and as many newest ones
MOST_SAMPLES = 3000  # the same, of the lines of samples
MOST_NOTES = 20_000  # the same, of notes and of warnings; a run of a million steps has about 5,000
PAST_BYTES = 1 << 20  # read at a time
STEP_BYTES = 2 << 20  # before the part read first: its steps are shown; earlier ones, after the first, only counted
KIND_WITHIN = 400  # the kind stands within this many bytes of a line
STEP, *UNSHOWN = (b'"kind":"%s"' % kind.encode() for kind in (events.Step.kind, *SILENT))


class LogLine(NamedTuple):
    """One line of the log: time of day, level (step, note, data, warning, error), and text."""

    at: str
    level: str
    text: str
    number: int = 0  # increases from line to line: where it begins in the stream, in bytes
    sample: int = 0  # of a line of a sample: its number among these, from 1
    score: str = ""  # of such a line: the score of its evaluation, if that is known


class LineMaker:
    """Makes log lines of the records of a stream, given in order."""

    def __init__(self, lang: Lang) -> None:
        self._lang, self._score = lang, ""

    def lines(self, record: Record, begin: int, state: RunState) -> list[LogLine]:
        """The lines of a record that begins at this byte of the stream; `state` is that of the run, as far as known."""
        at, event = safe(record.envelope.at[11:19], 8), record.event
        if isinstance(event, events.Eval):
            self._score = score_phrase(event).text(self._lang)
        made = enumerate(event_text.lines(event, state, self._lang))
        if isinstance(event, events.Sample):
            return [LogLine(at, level, text, begin + n, n + 1, self._score) for n, (level, text) in made]
        return [LogLine(at, level, text, begin + n) for n, (level, text) in made]


class Gap(NamedTuple):
    """Lines that are not held: their count, and the number of the first line after them."""

    lines: int = 0
    before: int = 0


class Earlier(NamedTuple):
    """The parts of a log that are not held, by the kind of their lines, and the share of it read so far."""

    notes: Gap = Gap()
    steps: Gap = Gap()
    read: float = 1.0
    samples: Gap = Gap()
    warnings: Gap = Gap()

    @property
    def is_whole(self) -> bool:
        """Whether every line of the log is held."""
        return self.read >= 1 and not any((self.notes.lines, self.steps.lines, self.samples.lines, self.warnings.lines))


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
    """A bounded number of lines: no kind displaces another, and nothing displaces the beginning."""

    def __init__(self) -> None:
        self._notes, self._warnings = Held(MOST_NOTES), Held(MOST_NOTES)
        self._steps, self._samples = Held(MOST_STEPS), Held(MOST_SAMPLES)
        self.begun = True  # no earlier lines are still to come
        self.steps_passed = 0  # steps of the earlier part that were only counted

    def add(self, lines: Iterable[LogLine]) -> None:
        """Appends newer lines."""
        for line in lines:
            self._of(line).add(line, begun=self.begun)

    def add_earlier(self, lines: Iterable[LogLine]) -> None:
        """Appends lines that precede everything given to `add`, in order."""
        for line in lines:
            behind = line.level == "step" and self.steps_passed > 0
            self._of(line).add_earlier(line, behind=behind)

    def _of(self, line: LogLine) -> Held:
        if line.sample:
            return self._samples
        return {"step": self._steps, "warning": self._warnings, "error": self._warnings}.get(line.level, self._notes)

    def lines(self) -> tuple[LogLine, ...]:
        """All lines held, in order."""
        kinds = (self._notes, self._warnings, self._samples, self._steps)
        return tuple(heapq.merge(*(held.lines() for held in kinds), key=attrgetter("number")))

    def earlier(self, read: float) -> Earlier:
        """What is not held, when the share `read` of the log was read."""
        steps = self._steps.gap(self.steps_passed)
        return Earlier(self._notes.gap(), steps, read, self._samples.gap(), self._warnings.gap())


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

    def read(self) -> list[tuple[Record, int]]:
        """The next piece, with its steps only if they are among the first or near the end: records and their places."""
        piece = min(PAST_BYTES, self._until - self._offset)
        records = self._reader.poll(piece)
        self._offset += piece
        return list(zip(records, self._reader.begins, strict=True))

    def _wanted(self, line: bytes) -> bool:
        head = line[:KIND_WITHIN]
        if STEP in head:
            if self._steps >= MOST_STEPS and self._until - self._offset > STEP_BYTES:
                self.steps_passed += 1
                return False
            self._steps += 1
        return not any(kind in head for kind in UNSHOWN)
