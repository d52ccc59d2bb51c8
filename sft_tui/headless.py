"""What --no-ui prints: plain lines, bars or raw events of a run; data go to stdout, notes to stderr."""

import math
import sys
from typing import IO, Protocol

from engine.contract import events
from engine.contract.events import Record, encode
from engine.contract.harmless import harmless
from engine.contract.texts import Lang, say
from sft_tui.event_text import phase_line, phase_name, printed_lines, step_line, time_left
from sft_tui.output import write_line
from sft_tui.run_state import RunState, reduce

PHASE_LINE_SECONDS = 10.0
STEP_LINE_SECONDS = 60.0


class EventView(Protocol):
    """Shows the events of one attempt as they come."""

    def show(self, record: Record) -> None:
        """Shows one event."""

    def close(self) -> None:
        """Restores the terminal."""

    def suspend(self) -> None:
        """Makes room for a question."""

    def restore(self) -> None:
        """Resumes after a question."""


def choose_view(lang: Lang, *, json: bool) -> EventView:
    """Raw events if asked for; bars if standard error is a terminal; else plain lines."""
    if json:
        return JsonView(sys.stdout)
    if sys.stderr.isatty():
        return BarsView(lang, sys.stdout, sys.stderr)
    return PlainView(lang, sys.stdout, sys.stderr)


class _Lines:
    """The base of views that only print lines and have no terminal state to restore."""

    def close(self) -> None:
        """Nothing to do."""

    def suspend(self) -> None:
        """Nothing to do."""

    def restore(self) -> None:
        """Nothing to do."""


class JsonView(_Lines):
    """One event per line, as in the stream."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out

    def show(self, record: Record) -> None:
        """Prints the event."""
        self._out.write(encode(record).decode("ascii"))
        self._out.flush()


class PlainView(_Lines):
    """Lines: steps, scores and samples to `out`; everything else to `notes`.

    Periodic lines follow the timestamps of the events, so a log that is read later gives the same lines.
    """

    def __init__(self, lang: Lang, out: IO[str], notes: IO[str], state: RunState | None = None) -> None:
        """`state` is that of the run before the first event shown."""
        self._lang, self._out, self._notes = lang, out, notes
        self._state = state or RunState()
        self._phase_at = self._step_at = math.inf
        self._phase_name = ""

    def show(self, record: Record) -> None:
        """Prints the lines of an event."""
        self._state = reduce(self._state, record)
        now = record.envelope.mono
        self._phase_at, self._step_at = min(self._phase_at, now), min(self._step_at, now)  # a boot restarts the clock
        match record.event:
            case events.Step() as step:
                self._step(step, now)
            case events.Phase() as phase:
                self._phase(phase, now)
            case event:
                for level, line in printed_lines(event, self._state, self._lang):
                    write_line(line, self._out if level == "data" else self._notes)

    def _step(self, step: events.Step, now: float) -> None:
        every = int(self._state.started.config.get("logging_steps", 50)) if self._state.started else 50
        due = step.step == 1 or step.step % every == 0 or step.step == step.steps_total
        if due or now - self._step_at > STEP_LINE_SECONDS:
            self._step_at = now
            write_line(step_line(self._state, self._lang), self._out)

    def _phase(self, phase: events.Phase, now: float) -> None:
        changed, self._phase_name = phase.name != self._phase_name, phase.name
        if phase.name in ("training", "saving", "publishing", "verifying"):
            return
        if changed or now - self._phase_at > PHASE_LINE_SECONDS:  # the next file is the same phase
            self._phase_at = now
            write_line(phase_line(phase, self._lang), self._notes)


class BarsView:
    """rich progress bars on standard error, with scores and notes above them."""

    def __init__(self, lang: Lang, out: IO[str], notes: IO[str]) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn

        self._lang, self._out = lang, out
        self._plain = None if out.isatty() else PlainView(lang, out, notes)
        self._state = RunState()
        self._console = Console(file=notes, highlight=False, markup=False, emoji=False)
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[more]}", markup=False),
            console=self._console,
            refresh_per_second=4,
            expand=True,
        )
        self._tasks = {name: self._bars.add_task(name, visible=False, total=None, more="") for name in ("run", "part")}
        self._bars.start()

    def show(self, record: Record) -> None:
        """Updates the bars and prints the lines of an event."""
        from rich.text import Text

        if self._plain is not None and isinstance(record.event, events.Step):
            self._plain.show(record)
        self._state = reduce(self._state, record)
        self._move(record)
        for _, line in printed_lines(record.event, self._state, self._lang):
            self._console.print(Text(harmless(line)))

    def close(self) -> None:
        """Removes the bars."""
        self._bars.stop()

    def suspend(self) -> None:
        """Hides the bars for a while."""
        self._bars.stop()

    def restore(self) -> None:
        """Shows the bars again."""
        self._bars.start()

    def _move(self, record: Record) -> None:
        match record.event:
            case events.Plan() as plan:
                name = say("app.bar_run", self._lang)
                self._bars.update(
                    self._tasks["run"], description=name, completed=plan.step, total=plan.steps_total, visible=True
                )
            case events.Step() as step:
                self._move_step(step)
            case events.Phase() as phase if phase.name not in ("training", "saving"):
                name = phase_name(phase.name, self._lang)
                total = phase.total or None
                self._bars.update(
                    self._tasks["part"], description=name, completed=phase.done, total=total, visible=True, more=""
                )

    def _move_step(self, step: events.Step) -> None:
        state, lang = self._state, self._lang
        self._bars.update(self._tasks["run"], completed=step.step, more=time_left(state, lang))
        per_epoch = state.plan.steps_per_epoch if state.plan else step.steps_total
        self._bars.update(
            self._tasks["part"],
            description=say("app.bar_epoch", lang, epoch=step.epoch, epochs=state.epochs),
            completed=step.step - (step.epoch - 1) * per_epoch,
            total=per_epoch,
            visible=True,
            more=say("app.bar_loss", lang, loss=step.loss),
        )
