"""What --no-ui prints: plain lines, bars or raw events of a run; data go to stdout, notes to stderr."""

import math
import sys
from typing import IO, Protocol

from engine.contract import events
from engine.contract.events import Record, encode
from engine.contract.harmless import harmless
from engine.contract.messages import PHASES_ZH, Lang
from engine.contract.presets import built_in
from sft_tui import text
from sft_tui.locale import say
from sft_tui.output import write_line
from sft_tui.run_state import RunState, reduce

PHASE_LINE_SECONDS = 10.0
STEP_LINE_SECONDS = 60.0
WARM_STEPS = 3  # steps before the time left is shown


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
                for stream, line in lines(event, self._state, self._lang):
                    write_line(line, self._out if stream == "data" else self._notes)

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
        for _, line in lines(record.event, self._state, self._lang):
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
                name = say("bar_run", self._lang)
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
            description=say("bar_epoch", lang, epoch=step.epoch, epochs=state.epochs),
            completed=step.step - (step.epoch - 1) * per_epoch,
            total=per_epoch,
            visible=True,
            more=say("bar_loss", lang, loss=step.loss),
        )


def phase_name(name: str, lang: Lang) -> str:
    """The displayed name of a phase."""
    return text.safe(PHASES_ZH.get(name, name) if lang == "zh" else name)


def phase_line(phase: events.Phase, lang: Lang) -> str:
    """The progress of a phase, as a line."""
    key = "phase_done" if phase.total else "phase"
    return say(key, lang, name=phase_name(phase.name, lang), done=phase.done, total=phase.total)


def time_left(state: RunState, lang: Lang) -> str:
    """The time left, or nothing while it would be a guess."""
    seconds = state.seconds_left
    if seconds is None or state.pace.steps < WARM_STEPS:
        return ""
    return say("left_open" if state.evaluation_unknown else "left", lang, time=text.duration(seconds))


def step_line(state: RunState, lang: Lang) -> str:
    """The newest step on one line, its numbers in fixed columns."""
    step = state.step
    if step is None:
        return ""
    line = say(
        "step",
        lang,
        step=step.step,
        width=len(str(step.steps_total)),
        total=step.steps_total,
        epoch=step.epoch,
        epochs=state.epochs,
        loss=step.loss,
        lr=step.lr,
        grad=step.grad_norm,
        rate=f"{state.tokens_per_second:,.0f}",
        left=time_left(state, lang),
    )
    return line.rstrip()


Line = tuple[str, str]  # ("data" or "note", the line)


def lines(event: events.Event, state: RunState, lang: Lang) -> list[Line]:
    """The lines of an event other than a step or a phase; foreign text is made harmless."""
    match event:
        case events.RunStarted():
            return [("note", line) for line in started_lines(event, lang)]
        case events.Plan():
            counts = {"rows": event.rows, "batch": event.effective_batch, "precision": text.safe(event.precision, 40)}
            steps = {"per_epoch": event.steps_per_epoch, "total": event.steps_total}
            return [("note", say("plan", lang, **counts, **steps))]
        case events.Eval():
            scale = [("note", say("bleu_scale", lang))] if state.pace.evaluations == 1 else []  # explained once
            return [("data", _eval_line(event, state, lang)), *scale]
        case events.Sample():
            parts = {"prompt": event.prompt, "reference": event.reference, "prediction": event.prediction}
            return [
                ("data", say(f"sample_{part}", lang, text=text.safe(words.strip(), 200)))
                for part, words in parts.items()
            ]
        case events.Checkpoint():
            shown = {"size": text.size(event.size), "time": text.duration(event.seconds)}
            return [("note", say("checkpoint", lang, step=event.step, **shown))]
        case events.Notice() | events.Warning():
            return [("note", say(event.kind, lang, text=text.safe(event.message.text(lang))))]
        case events.RunEnded():
            return ended_lines(event, lang)
    return []


def started_lines(event: events.RunStarted, lang: Lang) -> list[str]:
    """Which configuration is used, what was overridden, and what the machine has."""
    known = built_in().get(event.preset)
    summary = known.summary(lang) if known else "-"
    name = f"{event.preset} ({known.original})" if known and known.original else event.preset
    first = say("using", lang, preset=text.safe(name), summary=summary)
    overrides = [
        say("override", lang, name=text.safe(name), old=text.number(pair[0]), new=text.number(pair[1]))
        for name, pair in event.overrides.items()
        if isinstance(pair, list) and len(pair) == 2
    ]
    machine = say(
        "machine",
        lang,
        memory=text.size(event.memory_available),
        disk=text.size(event.disk_available),
        processes=event.world_size,
        device=text.safe(event.device),
    )
    custom = [say("overrides", lang), *overrides] if overrides else [say("no_overrides", lang)]
    store = text.safe(str(event.config.get("token_store", "-")), 200)
    if event.job == "test":
        return [first, *custom, machine]
    mode = say("low_memory_16" if event.preset == "sft-small" else "low_memory", lang)
    return [first, *custom, mode, machine, say("low_mem_dataset", lang, store=store)]


def _eval_line(event: events.Eval, state: RunState, lang: Lang) -> str:
    return say(
        "test" if state.started and state.started.job == "test" else "eval",
        lang,
        epoch=event.epoch,
        loss=event.loss,
        bleu=event.bleu,
        signature=text.safe(event.signature),
        rows=event.rows,
        time=text.duration(event.seconds),
    )


def _short(value: str) -> bool:
    """Whether a piece of evidence fits on a line; tracebacks and stacks are in the log."""
    return "\n" not in value.strip()


def ended_lines(event: events.RunEnded, lang: Lang) -> list[Line]:
    """The lines on how an attempt ended, what to do, and how much memory it took."""
    what, fix = text.safe(event.message.what(lang)), text.safe(event.message.fix(lang))
    good = event.exit_code == 0
    stream = "data" if good else "note"
    shown: list[Line] = [(stream, what if good else say("error", lang, text=what))]
    if fix:
        shown.append(("note", say("fix", lang, text=fix)))
    if not good:
        shown += [
            ("note", f"  {text.safe(name, 80)}: {text.safe(value, 300)}")
            for name, value in event.evidence.items()
            if _short(value)
        ]
    peaks = [
        text.size(float(size)) for name, size in event.evidence.items() if name.startswith("peak_") and size.isdigit()
    ]
    if peaks:
        shown.append(("note", say("peak", lang, peaks=", ".join(peaks))))
    return shown
