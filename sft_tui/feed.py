"""One run as a screen shows it: its state, its curves and its log, brought up to date in pieces."""

import time
from dataclasses import dataclass, field, replace

from engine.contract import events
from engine.contract.events import Record, decode
from engine.contract.files import read_piece
from engine.contract.rundir import RunDir
from engine.contract.texts import Lang
from sft_tui import run_facts, runs
from sft_tui.curves import Curves
from sft_tui.history import Follower
from sft_tui.log_lines import Earlier, LineMaker, Log, LogLine, Past
from sft_tui.run_facts import RunFacts
from sft_tui.run_state import RunState
from sft_tui.runs import Run

PIECE_BYTES = 128 << 10  # read at a time, so that other threads wait only briefly
TAIL_BYTES = 64 << 10  # of the log that is shown at first
LOOK_SECONDS = 2.0
LEVELS = ("notes", "all", "warnings")


@dataclass(frozen=True)
class FeedState:
    """What is known of a run at one moment; immutable."""

    run: Run
    curves: Curves
    log: tuple[LogLine, ...]
    behind: int  # bytes of the stream that are still to be read
    earlier: Earlier = field(default_factory=Earlier)
    facts: RunFacts = field(default_factory=RunFacts)


@dataclass
class Feed:
    """Follows a run; `poll` reads a piece of the new events, or else of the earlier ones."""

    run_dir: RunDir
    lang: Lang
    run: Run | None = None
    log: Log = field(default_factory=Log)
    behind: int = 0  # bytes of the stream that are still to be read
    _follower: Follower | None = None
    _restarts: int = 0  # of the stream so far
    _past: Past | None = None  # what the snapshot already covers, before the newest lines of the log
    _looked_at: float = 0.0
    _facts: RunFacts = field(default_factory=RunFacts)  # as of the same moment as `run`

    def __post_init__(self) -> None:
        self._newer, self._older = LineMaker(self.lang), LineMaker(self.lang)

    @property
    def state(self) -> RunState:
        """The state so far."""
        return self._follower.state if self._follower else RunState()

    @property
    def curves(self) -> Curves:
        """The curves so far."""
        return self._follower.curves if self._follower else Curves()

    @property
    def reading(self) -> bool:
        """Whether more of the log is ready to be read immediately."""
        return self.behind > 0 or self._past is not None

    def latest(self) -> FeedState | None:
        """The state as of now, for another thread; None before the first poll."""
        if self.run is None:
            return None
        earlier = self.log.earlier(self._past.share if self._past else 1.0)
        run = replace(self.run, state=self.state)
        if not run.alive:
            if self.state.ended is None:  # and its end could not be written
                run = replace(run, state=replace(self.state, ended=self.run.state.ended))
            run = runs.located(run)
        return FeedState(run, self.curves.copy(), self.log.lines(), self.behind, earlier, self._facts)

    def poll(self) -> bool:
        """Reads a piece; returns whether there was one."""
        fresh = self._follower is None
        if self._follower is None:
            self._follower = Follower(self.run_dir)
            self._read_tail(self._follower.offset)
        records = self._follower.poll(PIECE_BYTES)
        if self._follower.restarts > self._restarts:  # the stream is not the same file as before
            self._restarts, self.log, self._past = self._follower.restarts, Log(), None
        for record, begin in zip(records, self._follower.begins, strict=True):
            self.log.add(self._newer.lines(record, begin, self._follower.state))
        self.behind = max(0, runs.log_bytes(self.run_dir) - self._follower.offset)
        now = time.monotonic()
        if fresh or now - self._looked_at > LOOK_SECONDS or any(_ends(record) for record in records):
            self._looked_at = now
            before, facts = self.run, self._facts
            self.run = self._look()
            self._facts = run_facts.read(self.run)
            fresh = fresh or _status(before) != _status(self.run) or facts != self._facts
        if not fresh and not records and self._past is not None:
            self._read_past(self._past)
            return True
        return fresh or bool(records)

    def _look(self) -> Run:
        """Checks whether the run is alive; the rest of it is already known here."""
        record = self.run_dir.read_record()
        alive = runs.lives(self.run_dir, record, self.state)
        if not alive and self.behind == 0 and self.state.ended is None:
            return runs.read_run(self.run_dir)  # writes the certificate if no process is left to do so
        output = record.output.of_run(self.run_dir.path.name, record.id)
        return Run(self.run_dir, record, self.state, alive, output=output)

    def _read_tail(self, offset: int) -> None:
        """Reads the newest lines before `offset`, which the snapshot covers; earlier lines are read later."""
        begin = max(0, offset - TAIL_BYTES)
        try:
            tail = read_piece(self.run_dir.events, begin, offset - begin)
        except OSError:
            return
        if begin:
            begin += tail.find(b"\n") + 1
            tail = tail[tail.find(b"\n") + 1 :]
            self._past, self.log.begun = Past(self.run_dir, begin), False
        for line in tail.split(b"\n"):
            record = decode(line)
            if record is not None:
                self.log.add(self._newer.lines(record, begin, self.state))
            begin += len(line) + 1

    def _read_past(self, past: Past) -> None:
        for record, begin in past.read():
            self.log.add_earlier(self._older.lines(record, begin, self.state))
        self.log.steps_passed = past.steps_passed
        if past.share >= 1:
            self._past, self.log.begun = None, True


def _status(run: Run | None) -> str:
    return run.status if run else ""


def _ends(record: Record) -> bool:
    return isinstance(record.event, events.RunEnded)
