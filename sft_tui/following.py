"""Follows a run in this terminal until it ends or its viewer leaves; nothing that happens here affects the run."""

import contextlib
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from types import FrameType

from engine.contract import events
from engine.contract.events import Record
from engine.contract.merged_stream import MergedReader
from engine.contract.messages import InputError
from engine.contract.rundir import RunDir
from engine.contract.texts import Lang, say
from sft_tui import runs, text
from sft_tui.headless import EventView
from sft_tui.output import echo
from sft_tui.removal import discard
from sft_tui.run_state import ApartEnd, one_end
from sft_tui.starting import Started

POLL_SECONDS = 0.2
LOOK_SECONDS = 2.0  # between checks that a process is left which can report the end of the run
READ_BYTES = 4 << 20  # at a time: a viewer that was suspended for hours catches up without holding everything in memory


End = tuple[int, events.RunEnded, str, tuple[ApartEnd, ...]]  # with its attempt, who wrote it, and what others wrote


class LeftError(Exception):
    """The viewer leaves; the run continues."""


class Leaving:
    """The signal that asked this program to end, if any.

    What a handler raises is lost where Python cannot raise, as in the callback of a weak reference: what waits in a
    loop calls `check` in each round.
    """

    def __init__(self) -> None:
        self._number, self._held = 0, False

    def asked(self, number: int, _frame: FrameType | None = None) -> None:
        """The handler of the signals."""
        self._number = number
        if not self._held:
            self.check()

    def check(self) -> None:
        """Raises KeyboardInterrupt or SystemExit if a signal came."""
        if self._number == signal.SIGINT:
            raise KeyboardInterrupt
        if self._number:
            raise SystemExit(128 + self._number)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Has a signal wait for the next `check`: for what must not be left half done."""
        self._held = True
        try:
            yield
        finally:
            self._held = False


def follow(run_dir: RunDir, view: EventView, lang: Lang, *, attempt: int = 0) -> int:
    """Shows the run from `attempt` (0: its beginning) to its end; returns its exit code, or 0 if the viewer left."""
    with ended_in_order() as leaving:
        try:
            end = _to_the_end(run_dir, view, lang, attempt, leaving)
        except LeftError:
            echo(say("app.left_running", lang, run=text.safe(run_dir.path.name)), err=True)
            return 0
        finally:
            view.close()
    if end.exit_code and end.reason not in ("refused", "busy"):
        echo(say("app.log_place", lang, path=text.safe(str(run_dir.path))), err=True)
    return end.exit_code


def follow_started(started: Started, view: EventView, lang: Lang) -> int:
    """Shows a run that was just started; one that is refused at once leaves nothing behind."""
    code = follow(started.run_dir, view, lang, attempt=started.attempt)
    if code in (2, 3) and started.made:
        started.supervisor.wait()
        discard(started.run_dir, started.made)
    return code


def _to_the_end(run_dir: RunDir, view: EventView, lang: Lang, attempt: int, leaving: Leaving) -> events.RunEnded:
    reader, looked_at, dead = MergedReader(run_dir), 0.0, 0
    pending: deque[Record] = deque()  # so that Ctrl-C loses none of them
    end: End | None = None
    last: Record | None = None
    while True:
        leaving.check()
        try:
            pending.extend(reader.poll(READ_BYTES))
            if pending:
                dead = 0
            while pending:
                record = last = pending.popleft()
                end = _end_so_far(end, record)
                if record.envelope.attempt >= attempt:
                    _show(view, record)
            if time.monotonic() - looked_at > LOOK_SECONDS or end is not None:
                looked_at = time.monotonic()
                run = runs.read_run(run_dir)
                over = end is not None and end[0] >= attempt
                if end is not None and over and not run.alive and run.state.attempt == end[0]:
                    for record in reader.poll():  # readings written together with the end
                        _show(view, record)
                    return end[1]
                dead = 0 if run.alive or over else dead + 1
                if dead > 1:  # and nothing was written in between
                    return _end_without_record(run, attempt, view, last)
            time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            view.suspend()
            _ask(run_dir, lang)
            view.restore()


def _end_without_record(run: runs.Run, attempt: int, view: EventView, last: Record | None) -> events.RunEnded:
    """The end of an attempt that could not be written to its stream; raises InputError if no end is known."""
    end = run.state.ended
    if last is None or end is None or run.state.attempt < attempt:
        raise InputError("supervisor_failed", run=run.name, log=str(run.run_dir.supervisor_output))
    _show(view, replace(last, event=end))
    return end


def _show(view: EventView, record: Record) -> None:
    """Shows an event; raises LeftError if the terminal or file it is written to accepts no more output."""
    try:
        view.show(record)
    except OSError:
        raise LeftError from None


def _end_so_far(end: End | None, record: Record) -> End | None:
    """The end of the newest attempt; readings may follow it, and a later attempt clears it."""
    attempt, src = record.envelope.attempt, record.envelope.src
    if isinstance(record.event, events.RunEnded):
        if end is None or end[0] != attempt:
            return attempt, *one_end(None, "", (), record.event, src)
        _, known, by, apart = end
        return attempt, *one_end(known, by, apart, record.event, src)
    return end if end is not None and end[0] >= attempt else None


def _ask(run_dir: RunDir, lang: Lang) -> None:
    """Asks a person who pressed Ctrl-C what to do; raises LeftError if the choice is to leave, or nobody can answer."""
    stopping = bool(run_dir.stop_requested())
    try:
        answer = input("\n" + say("app.ask_again" if stopping else "app.ask", lang)) if sys.stdin.isatty() else ""
    except (EOFError, KeyboardInterrupt):
        echo(err=True)
        answer = ""
    choice = answer.strip().lower()[:1]
    if choice == "c":
        return
    if choice == "s" and not stopping:
        runs.ask(run_dir, "stop")
        echo(say("app.stopping", lang), err=True)
        return
    if choice == "n" and stopping:
        runs.ask(run_dir, "now")
        echo(say("app.ending", lang), err=True)
        return
    raise LeftError


@contextlib.contextmanager
def ended_in_order(*others: signal.Signals) -> Iterator[Leaving]:
    """Has a signal that ends this program, or one of the `others`, end what is in progress first.

    One that is ignored, as under nohup, remains ignored.
    """
    leaving = Leaving()
    numbers = [one for one in (signal.SIGTERM, signal.SIGHUP, *others) if signal.getsignal(one) != signal.SIG_IGN]
    before = {number: signal.signal(number, leaving.asked) for number in numbers}
    try:
        yield leaving
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
