"""The words of a run's events, and how important each line is; every view and log takes them from here."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from engine.contract import events
from engine.contract.events import Event
from engine.contract.messages import InputError
from engine.contract.presets import built_in
from engine.contract.scores import Measured, all_measures, score_phrase, score_phrases, shown
from engine.contract.texts import Lang, filled, named, say, template
from sft_tui import text
from sft_tui.run_state import RunState

Level = Literal["step", "note", "data", "warning", "error"]  # data is what a run was started for
WARM_STEPS = 3  # steps before the time left is shown
# The beginnings of names of evidence that the message of an end says itself, or that is shown elsewhere.
SAID = ("rank", "signal", "phase", "output", "rows_", "peak_", "memory_total")


class EventLine(NamedTuple):
    """One line of an event, and its level."""

    level: Level
    text: str


def lines(event: Event, state: RunState, lang: Lang) -> list[EventLine]:
    """The lines of an event as a log shows them, foreign text made harmless; `state` includes the event."""
    return WORDS.get(type(event), silent)(event, state, lang)


def printed_lines(event: Event, state: RunState, lang: Lang) -> list[EventLine]:
    """The same without a screen: steps come at a pace of their own, and how a run ended includes a rank's failure."""
    return [] if isinstance(event, events.Step | events.RankFailed) else lines(event, state, lang)


def silent(_event: Event, _state: RunState, _lang: Lang) -> list[EventLine]:
    """No line: the event is shown in another form, or not at all."""
    return []


def step_line(state: RunState, lang: Lang) -> str:
    """The newest step on one line, its numbers in fixed columns."""
    step = state.step
    if step is None:
        return ""
    line = say(
        "app.step",
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


def status_name(status: str, lang: Lang) -> str:
    """The displayed name of a run's state."""
    return text.safe(named("status", status, lang).replace("_", " "), 40)


def phase_name(name: str, lang: Lang) -> str:
    """The displayed name of a phase."""
    return text.safe(named("phase", name, lang))


def phase_line(phase: events.Phase, lang: Lang) -> str:
    """The progress of a phase, as a line."""
    key = "app.phase_done" if phase.total else "app.phase"
    return say(key, lang, name=phase_name(phase.name, lang), done=phase.done, total=phase.total)


def time_left(state: RunState, lang: Lang) -> str:
    """The time left, or nothing while it would be a guess."""
    seconds = state.seconds_left
    if seconds is None or state.pace.steps < WARM_STEPS:
        return ""
    return say("app.left_open" if state.evaluation_unknown else "app.left", lang, time=text.duration(seconds))


def best_score(best: events.Eval, lang: Lang) -> tuple[str, str]:
    """What to call the best score, and the score with its epoch: a test has no epoch and only one score."""
    score = score_phrase(best)
    if not best.epoch:
        return say("screen.eval", lang), score.text(lang)
    return say("screen.best", lang), say("screen.best_at", lang, score=score, epoch=best.epoch)


def ended_lines(event: events.RunEnded, lang: Lang) -> list[EventLine]:
    """The lines on how an attempt ended, what to do, and how much memory it took."""
    what, fix = text.safe(event.message.what(lang)), text.safe(event.message.fix(lang))
    good = event.exit_code == 0
    further: Level = "note" if good else "error"
    shown = [EventLine("data", what) if good else EventLine("error", say("app.error", lang, text=what))]
    if fix:
        shown.append(EventLine(further, say("app.fix", lang, text=fix)))
    if not good:
        shown += [EventLine(further, f"  {words}") for words in evidence_words(event, lang)]
    peaks = [
        text.size(float(size)) for name, size in event.evidence.items() if name.startswith("peak_") and size.isdigit()
    ]
    if peaks:
        shown.append(EventLine(further, say("app.peak", lang, peaks=", ".join(peaks))))
    return shown


def evidence_words(event: events.RunEnded, lang: Lang) -> list[str]:
    """What is known of an end beyond its message: the memory in a sentence, other facts as they were read."""
    evidence = {name: text.safe(value, 300) for name, value in event.evidence.items() if _is_short(value)}
    total = evidence.get("memory_total", "")
    known: list[str] = []
    if total and "memory_available" in evidence:
        most = _extreme(evidence.pop("memory_of_ranks", "-"), max)
        known = [
            say("evidence.memory", lang, free=_extreme(evidence.pop("memory_available"), min), total=total, most=most)
        ]
    return known + [_fact(name, value, lang) for name, value in evidence.items() if not name.startswith(SAID)]


def _fact(name: str, value: str, lang: Lang) -> str:
    known = template(f"evidence.{name}", lang)
    return filled(known, {"value": value}) if known else f"{text.safe(name, 80)}: {value}"


def _extreme(readings: str, choose: Callable[..., str]) -> str:
    """The smallest or the largest of some sizes with bars between them."""
    return choose((one.strip() for one in readings.split("|")), key=_bytes)


def _bytes(reading: str) -> int:
    """The bytes of a reading, of the first rank if it is of several; 0 if it is not a size."""
    try:
        return text.parse_size(reading.partition(",")[0])
    except InputError:
        return 0


def _is_short(value: str) -> bool:
    """Whether a piece of evidence fits on a line; tracebacks and stacks are in the log."""
    return "\n" not in value.strip()


def _started(event: events.RunStarted, _state: RunState, lang: Lang) -> list[EventLine]:
    """Which configuration is used, what was overridden, and what the machine has."""
    known = built_in().get(event.preset)
    name = text.safe(f"{event.preset} ({known.original})" if known and known.original else event.preset)
    own = say("app.using_own", lang, preset=name)
    first = say("app.using", lang, preset=name, summary=known.summary(lang)) if known else own
    overrides = [
        say("app.override", lang, name=text.safe(name), old=text.number(pair[0]), new=text.number(pair[1]))
        for name, pair in event.overrides.items()
        if isinstance(pair, list) and len(pair) == 2
    ]
    machine = say(
        "app.machine",
        lang,
        memory=text.size(event.memory_available),
        disk=text.size(event.disk_available),
        processes=event.world_size,
        device=text.safe(event.device),
    )
    custom = [say("app.overrides", lang), *overrides] if overrides else [say("app.no_overrides", lang)]
    store = text.safe(str(event.config.get("token_store", "-")), 200)
    mode = say("app.low_memory_16" if event.preset == "sft-small" else "app.low_memory", lang)
    trained = event.job != "test"
    rows = say("app.low_mem_dataset", lang, store=store)
    shown = [first, *custom, *([mode] if trained else []), machine, *([rows] if trained else [])]
    return [EventLine("note", line) for line in shown]


def _plan(event: events.Plan, _state: RunState, lang: Lang) -> list[EventLine]:
    counts = {"rows": event.rows, "batch": event.effective_batch, "precision": text.safe(event.precision, 40)}
    steps = {"per_epoch": event.steps_per_epoch, "total": event.steps_total}
    return [EventLine("note", say("app.plan", lang, **counts, **steps))]


def _step(event: events.Step, _state: RunState, _lang: Lang) -> list[EventLine]:
    """Short: the screen shows the rest in the chart and below it."""
    return [EventLine("step", step_text(event.step, event.steps_total, event.loss, event.lr))]


def step_text(step: int, steps_total: int, loss: float, lr: float) -> str:
    """A step as a line of the log."""
    return f"{step}/{steps_total}  {loss:.4f}  lr {lr:.2e}"


def _eval(event: events.Eval, state: RunState, lang: Lang) -> list[EventLine]:
    counts = {"rows": event.rows, "time": text.duration(event.seconds)}
    if state.started is not None and state.started.job == "test":
        return [EventLine("data", say("app.test", lang, **counts)), *_tested(event, lang)]
    line = EventLine("data", say("app.eval", lang, epoch=event.epoch, scores=score_phrases(event), **counts))
    if state.pace.evaluations != 1:
        return [line]
    notes = [say("app.bleu_scale", lang), *(_signed(name, one, lang) for name, one in all_measures(event).items())]
    return [line, *(EventLine("note", note) for note in notes)]


def _signed(name: str, measured: Measured, lang: Lang) -> str:
    return say("app.measured_by", lang, name=named("measure", name, lang), signature=text.safe(measured.signature))


def _tested(event: events.Eval, lang: Lang) -> list[EventLine]:
    """A line for each measure, in columns."""
    known = all_measures(event)
    names = [named("measure", name, lang) for name in known]
    values = [shown(name, one.value) for name, one in known.items()]
    widths = max(map(text.width, names)), max(map(text.width, values))
    return [
        EventLine(
            "data",
            say(
                "app.measured",
                lang,
                name=text.pad(name, widths[0]),
                value=value.rjust(widths[1]),
                signature=text.safe(one.signature),
            ).rstrip(),
        )
        for name, value, one in zip(names, values, known.values(), strict=True)
    ]


def _sample(event: events.Sample, _state: RunState, lang: Lang) -> list[EventLine]:
    parts = {"prompt": event.prompt, "reference": event.reference, "prediction": event.prediction}
    return [
        EventLine("data", say(f"app.sample_{part}", lang, text=text.safe(words.strip(), 200)))
        for part, words in parts.items()
    ]


def _checkpoint(event: events.Checkpoint, _state: RunState, lang: Lang) -> list[EventLine]:
    shown = {"size": text.size(event.size), "time": text.duration(event.seconds)}
    return [EventLine("note", say("app.checkpoint", lang, step=event.step, **shown))]


def _rank_failed(event: events.RankFailed, _state: RunState, lang: Lang) -> list[EventLine]:
    """One of several machines is named."""
    who = say("app.rank_of", lang, rank=event.rank, node=text.safe(event.node, 80)) if event.node else ""
    return [EventLine("error", who + text.safe(f"{event.reason}: {event.why}", 400))]


def _notice(event: events.Notice, _state: RunState, lang: Lang) -> list[EventLine]:
    return [EventLine("note", say("app.notice", lang, text=text.safe(event.message.text(lang))))]


def _warning(event: events.Warning, _state: RunState, lang: Lang) -> list[EventLine]:
    return [EventLine("warning", say("app.warning", lang, text=text.safe(event.message.text(lang))))]


def _ended(event: events.RunEnded, _state: RunState, lang: Lang) -> list[EventLine]:
    return ended_lines(event, lang)


# Every kind of event is here. Those without a line are shown in a panel, as a bar or in a table, or not at all.
WORDS: dict[type[Event], Callable[[Any, RunState, Lang], list[EventLine]]] = {
    events.RunStarted: _started,
    events.Plan: _plan,
    events.Phase: silent,
    events.Step: _step,
    events.Eval: _eval,
    events.Sample: _sample,
    events.Checkpoint: _checkpoint,
    events.Rehearsed: silent,
    events.Host: silent,
    events.Gpu: silent,
    events.Heartbeat: silent,
    events.RankFailed: _rank_failed,
    events.Notice: _notice,
    events.Warning: _warning,
    events.RunEnded: _ended,
}
SILENT = tuple(event_type.kind for event_type, words in WORDS.items() if words is silent)
