"""One run as a screen shows it: its state, its curves and the newest lines of its log, brought up to date in pieces."""

import time
from collections import deque
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from engine.contract import events
from engine.contract.events import Record, decode
from engine.contract.files import read_piece
from engine.contract.messages import Lang
from engine.contract.rundir import RunDir
from sft_tui import headless, runs
from sft_tui.curves import Curves
from sft_tui.history import Follower
from sft_tui.run_state import RunState
from sft_tui.runs import Run
from sft_tui.text import safe

PIECE_BYTES = 128 << 10  # read at a time, so that whoever waits in between waits briefly
TAIL_BYTES = 256 << 10  # of the log that is shown at first
MOST_LINES = 5000
LOOK_SECONDS = 2.0
LEVELS = ("notes", "all", "warnings")


class LogLine(NamedTuple):
    """One line of the log: when (hours to seconds), how grave (step, note, data, warning, error), and the text."""

    at: str
    level: str
    text: str


@dataclass(frozen=True)
class Shot:
    """What is known of a run at one moment; nothing of it changes afterwards."""

    run: Run
    curves: Curves
    log: tuple[LogLine, ...]
    behind: int  # bytes of the stream that are still to be read
    noted: int = 0  # lines of the log that there ever were


@dataclass
class Feed:
    """Follows a run; `poll` takes in a piece of what is new and says whether there was any."""

    run_dir: RunDir
    lang: Lang
    run: Run | None = None
    log: deque[LogLine] = field(default_factory=lambda: deque(maxlen=MOST_LINES))
    behind: int = 0  # bytes of the stream that are still to be read
    noted: int = 0  # lines of the log that there ever were
    _follower: Follower | None = None
    _looked_at: float = 0.0

    @property
    def state(self) -> RunState:
        """The state so far."""
        return self._follower.state if self._follower else RunState()

    @property
    def curves(self) -> Curves:
        """The curves so far."""
        return self._follower.curves if self._follower else Curves()

    def shot(self) -> Shot | None:
        """What is known now, for another thread; None before the first poll."""
        if self.run is None:
            return None
        return Shot(replace(self.run, state=self.state), self.curves.copy(), tuple(self.log), self.behind, self.noted)

    def poll(self) -> bool:
        """Takes in what is new; whether anything was."""
        fresh = self._follower is None
        if self._follower is None:
            self._follower = Follower(self.run_dir)
            self._read_tail(self._follower.offset)
        records = self._follower.poll(PIECE_BYTES)
        for record in records:
            self._note(record, self._follower.state)
        self.behind = max(0, runs.log_bytes(self.run_dir) - self._follower.offset)
        now = time.monotonic()
        if fresh or now - self._looked_at > LOOK_SECONDS or any(_ends(record) for record in records):
            self._looked_at = now
            before, self.run = self.run, self._look()
            fresh = fresh or _status(before) != _status(self.run)
        return fresh or bool(records)

    def _look(self) -> Run:
        """Who is alive; the rest of a run is known here already."""
        record = self.run_dir.read_record()
        alive = runs.is_alive(self.run_dir, record)
        if not alive and self.behind == 0 and self.state.ended is None:
            return runs.look(self.run_dir)  # which writes the certificate where nobody is left to
        return Run(self.run_dir, record, self.state, alive)

    def _read_tail(self, offset: int) -> None:
        """The newest lines before `offset`, which were taken in by somebody else."""
        begin = max(0, offset - TAIL_BYTES)
        try:
            lines = read_piece(self.run_dir.events, begin, offset - begin).split(b"\n")
        except OSError:
            return
        for line in lines[1:] if begin else lines:
            record = decode(line)
            if record is not None:
                self._note(record, self.state)

    def _note(self, record: Record, state: RunState) -> None:
        at = safe(record.envelope.at[11:19], 8)
        for level, text in _said(record.event, state, self.lang):
            self.log.append(LogLine(at, level, text))
            self.noted += 1


def _status(run: Run | None) -> str:
    return run.status if run else ""


def _ends(record: Record) -> bool:
    return isinstance(record.event, events.RunEnded)


def _said(event: events.Event, state: RunState, lang: Lang) -> list[tuple[str, str]]:
    match event:
        case events.Step():
            return [("step", f"{event.step}/{event.steps_total}  {event.loss:.4f}  lr {event.lr:.2e}")]
        case events.Warning():
            return [("warning", line) for _, line in headless.lines(event, state, lang)]
        case events.RunEnded():
            level = "error" if event.exit_code else "note"
            return [(level, line) for _, line in headless.lines(event, state, lang)]
        case events.RankFailed():
            return [("error", safe(f"{event.reason}: {event.why}", 400))]
    return headless.lines(event, state, lang)
