"""The screen of one run, as a pure function from its state to lines."""

import math
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any

from engine.contract import events
from engine.contract.texts import Lang
from sft_tui import event_text
from sft_tui.curves import METRICS, Curves
from sft_tui.locale import say, status_name
from sft_tui.log import Earlier, LogLine
from sft_tui.run_state import RunState
from sft_tui.runs import Run
from sft_tui.screen import chart, machine_view
from sft_tui.screen.ink import Ink, Line, bar, columns, filled, fit, frame, side_by_side, wrap, wrapped
from sft_tui.screen.machine_view import Machine
from sft_tui.text import safe

PAGES = ("all", "chart", "samples", "log", "machine")
SHORTEST_WINDOW = 16  # steps of a chart
FIRST_EDGE = 64
HEADER_LINES = 2  # usually; a certificate takes more
MOST_LOG_LINES, MOST_SAMPLE_LINES = 4, 6  # for one text if its panel fills the screen
WIDE, TALL = 100, 30  # from this size on, panels are side by side


@dataclass(frozen=True)
class Look:
    """What the user has chosen to see: the curve and part of it, the lines of the log, the panels."""

    metric: str = "loss"
    log_scale: bool = False
    window: int = 0  # steps in the chart; 0: all
    back: int = 0  # steps between the right edge and the newest
    level: str = "notes"
    search: str = ""
    log_back: int = 0  # lines between the last one shown and the newest
    page: str = "all"
    sample: int = 0  # the first one shown

    def zoomed(self, by: float, steps: int, grain: int = 1) -> "Look":
        """A copy with more or fewer steps in the chart; `grain` is the number of steps per bucket of the curve."""
        window = round((self.window or steps) * by)
        if window >= steps:
            return replace(self, window=0, back=0)
        window = max(SHORTEST_WINDOW * grain, window)
        return replace(self, window=window, back=min(self.back, max(0, steps - window)))

    def panned(self, by: int, steps: int) -> "Look":
        """A copy moved by quarters of the window, to earlier steps if `by` is positive."""
        if not self.window:
            return self
        back = self.back + by * max(1, self.window // 4)
        return replace(self, back=min(max(0, back), max(0, steps - self.window)))

    def moved(self, by: int, lines: int, samples: int) -> "Look":
        """A copy with other samples if they fill the screen, else with other lines of the log."""
        if self.page == "samples":
            return replace(self, sample=min(max(0, samples - 1), max(0, self.sample + by)))
        return replace(self, log_back=min(max(0, self.log_back - by), max(0, lines - 1)))

    def kept(self, lines: int, steps: int) -> "Look":
        """A copy that, if scrolled back, shows the same lines and steps after this many new ones."""
        return replace(
            self,
            log_back=self.log_back + lines if self.log_back else 0,
            back=self.back + steps if self.window and self.back else self.back,
        )

    def next(self, name: str, choices: Sequence[str]) -> "Look":
        """A copy with the next of several choices."""
        now = choices.index(getattr(self, name)) if getattr(self, name) in choices else -1
        changed: dict[str, Any] = {name: choices[(now + 1) % len(choices)]}
        return replace(self, **changed)


@dataclass(frozen=True)
class RunView:
    """All that the screen shows."""

    run: Run
    curves: Curves
    log: Sequence[LogLine]
    look: Look = field(default_factory=Look)
    ink: Ink = field(default_factory=Ink)
    lang: Lang = "en"
    reading: float = 1.0  # share of the stream read so far
    now: float = 0.0  # seconds since 1970; 0: not shown
    earlier: Earlier = field(default_factory=Earlier)  # the parts that the log does not hold

    @property
    def state(self) -> RunState:
        """The state of the run."""
        return self.run.state


def draw(view: RunView, width: int, height: int) -> list[Line]:
    """The screen without its footer, in exactly the given lines and columns."""
    head = header(view, width)
    body = height - len(head)
    if view.look.page != "all":
        panel = {"chart": chart_panel, "samples": samples_panel, "log": log_panel, "machine": machine_panel}
        shown = panel[view.look.page](view, width, body)
    elif width >= WIDE and height >= TALL:
        shown = _wide(view, width, body)
    else:
        shown = _narrow(view, width, body)
    return filled([*head, *shown], width, height)


def _wide(view: RunView, width: int, height: int) -> list[Line]:
    left = width * 3 // 5
    top = height * 3 // 5
    upper = side_by_side(chart_panel(view, left, top), machine_panel(view, width - left, top))
    half = width // 2
    lower = side_by_side(samples_panel(view, half, height - top), log_panel(view, width - half, height - top))
    return upper + lower


def panel_at(look: Look, width: int, height: int, x: int, y: int) -> str:
    """The panel at a position of the screen without its footer."""
    if look.page != "all":
        return look.page
    if width >= WIDE and height >= TALL:
        above = y < HEADER_LINES + (height - HEADER_LINES) * 3 // 5
        if above:
            return "chart" if x < width * 3 // 5 else "machine"
        return "samples" if x < width // 2 else "log"
    return "log" if y >= height - 5 else "machine" if y >= height - 7 else "chart"


def _narrow(view: RunView, width: int, height: int) -> list[Line]:
    known = Machine(view.state, view.curves, view.lang)
    machine = machine_view.brief(known, width)[: 2 if height >= 14 else 1]
    log = 5 if height >= 15 else 3
    room = height - len(machine) - log
    if room < 5:
        return filled([*machine, *log_lines(view, width, height - len(machine))], width, height)
    return [*chart_panel(view, width, room), *filled(machine, width, len(machine)), *log_panel(view, width, log)]


def header(view: RunView, width: int) -> list[Line]:
    """What is running, and its progress; the certificate once it has ended."""
    run, state, lang = view.run, view.state, view.lang
    title: Line = [(f" {safe(run.name, 40)}", "head"), (" · ", "dim"), _status(view)]
    if run.alive and state.phase.name not in ("training", "starting"):
        title += [(" · ", "dim"), (event_text.phase_line(state.phase, lang), "")]
    if state.step is not None and state.epochs:
        title += [(" · ", "dim"), (say("bar_epoch", lang, epoch=state.step.epoch, epochs=state.epochs), "")]
    if view.reading < 1:
        title += [(" · ", "dim"), (say("ui_reading", lang, percent=f"{100 * view.reading:.0f}"), "warn")]
    room = width - columns(title) - 2
    right = next(text for text in _times(view) if columns([(text, "")]) <= room or not text)
    gap = room + 1 - columns([(right, "")])
    lines = [fit([*title, (" " * max(0, gap), ""), (f"{right} ", "dim")], width)]
    if state.ended is not None and not run.alive:
        return lines + certificate(state.ended, width, lang)
    return lines + _bars(view, width)


def _status(view: RunView) -> tuple[str, str]:
    if view.reading < 1 and not view.run.alive:
        return say("ui_reading_run", view.lang), "dim"
    status = view.run.status
    good = status in ("running", "finished", "starting", "finishing")
    role = "good" if good else "warn" if status in ("stopped", "paused", "stopping", "pausing", "orphaned") else "bad"
    sign = {"good": "✓ ", "warn": "! ", "bad": "✗ "}[role] if not view.run.alive else ""
    return sign + safe(status_name(status, view.lang), 40), role


def _times(view: RunView) -> list[str]:
    """When it began, the time left, and when it will be done, if known; followed by shorter versions."""
    state, lang = view.state, view.lang
    began = say("ui_started", lang, at=safe(state.began_at[5:16].replace("T", " "), 16)) if state.began_at else ""
    left = event_text.time_left(state, lang) if view.run.alive and state.ended is None else ""
    done = ""
    if left and view.now and state.seconds_left is not None and not state.evaluation_unknown:
        at = time.strftime("%m-%d %H:%M", time.localtime(view.now + state.seconds_left))
        done = say("ui_done", lang, at=at)
    choices = ((began, left, done), (left, done), (left,), ())
    return [" · ".join(filter(None, parts)) for parts in choices]


def _bars(view: RunView, width: int) -> list[Line]:
    state, lang = view.state, view.lang
    step, plan, phase = state.step, state.plan, state.phase
    done, total = (step.step, step.steps_total) if step else (0, plan.steps_total if plan else 0)
    parts = [(say("bar_run", lang), done, total)]
    if phase.name not in ("training", "starting", "saving") and phase.total:
        parts.insert(0, (event_text.phase_name(phase.name, lang), phase.done, phase.total))
    elif step is not None and plan is not None and plan.steps_per_epoch:
        within = step.step - (step.epoch - 1) * plan.steps_per_epoch
        length = min(plan.steps_per_epoch, total - (step.epoch - 1) * plan.steps_per_epoch)
        parts.insert(0, (say("ui_epoch", lang), within, length))
    each = (width - 1) // len(parts)
    line: Line = [(" ", "")]
    for name, now, whole in parts:
        share = now / whole if whole else 0.0
        count = f" {100 * share:3.0f} %  {now:,}/{whole:,}" if whole else "  -"
        room = each - columns([(name + count, "")]) - 4
        line += fit([(name + " ", "dim"), *bar(share, max(4, room)), (count, ""), ("  ", "")], each)
    return [fit(line, width)]


def certificate(end: events.RunEnded, width: int, lang: Lang) -> list[Line]:
    """How the run ended: why, what to do, and the evidence."""
    role = "good" if end.exit_code == 0 else "bad"
    lines: list[Line] = [[(f" {part}", role)] for part in wrap(safe(end.message.what(lang), 600), width - 2)[:3]]
    fix = safe(end.message.fix(lang), 600)
    if fix:
        lines += [[(f" {part}", "")] for part in wrap(fix, width - 2)[:3]]
    if end.apply:
        shown = ", ".join(f"{safe(name, 40)} = {safe(str(value), 40)}" for name, value in end.apply.items())
        lines.append([(" f ", "key"), (say("ui_apply", lang, settings=shown), "")])
    short = [(k, v) for k, v in end.evidence.items() if "\n" not in v.strip() and not k.startswith("peak_")]
    if short and end.exit_code:
        evidence = " · ".join(f"{safe(name, 40)} {safe(value, 80)}" for name, value in short[:4])
        lines.append([(f" {evidence}", "dim")])
    return [fit(line, width) for line in lines]


def chart_panel(view: RunView, width: int, height: int) -> list[Line]:
    """A curve, with its newest figures below."""
    look, state, lang = view.look, view.state, view.lang
    curve, metric = view.curves.of[look.metric], METRICS[look.metric]
    total = max(curve.last, 1)
    last = max(1, total - look.back)
    first = max(1, last - look.window + 1) if look.window else 1
    if not look.window and view.run.alive:
        last = edge(total, state.plan.steps_total if state.plan else 0)
    inner = height - 3
    buckets = curve.between(first, last, chart.columns_of(width - 4))
    span = max(1, last - first + 1)
    points = [
        ((step - first) * len(buckets) // span, loss)
        for step, loss, _ in view.curves.evaluations
        if look.metric == "loss" and first <= step <= last
    ]
    log = look.log_scale and not metric.is_share
    limits = (0.0, 1.0) if metric.is_share else None
    plot = chart.Plot(buckets, points, first, last, log, view.ink.ascii, metric.noisy, limits)
    body: list[Line] = chart.draw(plot, width - 4, inner)
    if not curve.last:
        body = [[(say("ui_no_steps", lang), "dim")]]
    elif limits and not any(bucket.known and bucket.high > 0 for bucket in buckets):
        body = [[(say("ui_zero_throughout", lang), "dim")]]
    body = [*filled(body, width - 4, inner), figures(state, lang, width - 4)]
    note: Line = [(say("ui_log", lang), "accent")] if log else []
    if look.window:
        note = [(f"{first:,}–{last:,} ", "dim"), *note]
    return frame([(say(f"ui_metric_{look.metric}", lang), "head")], body, width, height, note)


def edge(step: int, steps_total: int) -> int:
    """The end of the axis of a growing run: it doubles, so that what was drawn stays in place for a long time."""
    last = FIRST_EDGE
    while last < step:
        last *= 2
    return max(step, min(last, steps_total or last))


def figures(state: RunState, lang: Lang, width: int) -> Line:
    """The newest loss, learning rate, gradient norm, speed and share of padding, in fixed columns."""
    step = state.step
    if step is None:
        return []
    padding = 1 - step.tokens / step.padded_tokens if step.padded_tokens > 0 else 0.0
    rate = state.tokens_per_second
    parts = [
        (say("ui_train", lang), _short(step.loss, 4), 6),
        (say("ui_eval", lang), _short(state.evaluation.loss, 4) if state.evaluation else "-", 6),
        ("lr", f"{step.lr:.1e}", 7),
        (say("ui_grad", lang), _short(step.grad_norm, 2), 4),
        (say("ui_rate", lang), f"{rate:,.0f}" if rate < 1e5 else f"{rate / 1e3:,.0f}k", 6),
        (say("ui_padding", lang), f"{100 * padding:.0f} %", 4),
    ]
    line: Line = []
    for name, value, room in parts:
        part: Line = [(f"{name} ", "dim"), (f"{value:<{room}} ", "")]
        if columns(line) + columns(part) - 1 <= width:
            line += part
    return line


def _short(value: float, places: int) -> str:
    """A number with this many decimals, fewer the larger it is, so that it stays within its columns."""
    if not math.isfinite(value) or abs(value) >= 10 ** (places + 1):
        return f"{value:.0e}".replace("e+0", "e").replace("e+", "e")
    whole = len(f"{abs(value):.0f}") - 1
    return f"{value:.{max(0, places - whole)}f}"


def machine_panel(view: RunView, width: int, height: int) -> list[Line]:
    """Memory of each rank and of the machine, and the GPUs or the processor."""
    return machine_view.panel(Machine(view.state, view.curves, view.lang), width, height)


def samples_panel(view: RunView, width: int, height: int) -> list[Line]:
    """Predictions of the last evaluation, next to those of the previous one."""
    state, lang = view.state, view.lang
    title: Line = [(say("ui_samples", lang), "head")]
    if state.evaluation is not None:
        title += [(" · ", "dim"), (f"BLEU {state.evaluation.bleu:.2f}", "accent")]
        before = [one for one in view.curves.evaluations if one[0] < state.evaluation.step]
        if before:
            title += [(" " + say("ui_was", lang, bleu=f"{before[-1][2]:.2f}"), "dim")]
    body: list[Line] = []
    earlier = {one.row: one for one in state.samples_before}
    alone = view.look.page == "samples"
    for sample in state.samples[view.look.sample if alone else 0 :]:
        parts = [("ui_prompt", sample.prompt, "dim"), ("ui_reference", sample.reference, "dim")]
        if sample.row in earlier:
            parts.append(("ui_before", earlier[sample.row].prediction, ""))
        parts.append(("ui_after", sample.prediction, "head"))
        for key, words, role in parts:
            most = MOST_SAMPLE_LINES if alone else 2
            body += _labelled(say(key, lang), safe(words.strip(), 2000) or "-", role, width - 4, most)
        body.append([])
    if not body:
        body = [[(say("ui_no_samples", lang), "dim")]]
    count = len(state.samples)
    note: Line = [(f"{min(view.look.sample, count - 1) + 1}/{count}", "dim")] if alone and count else []
    return frame(title, body, width, height, note)


def _labelled(label: str, text: str, role: str, width: int, most: int) -> list[Line]:
    indent = columns([(label, "")]) + 1
    lines = wrapped(text, max(8, width - indent), most)
    return [
        [(f"{label} " if number == 0 else " " * indent, "accent"), (line, role)] for number, line in enumerate(lines)
    ]


def log_panel(view: RunView, width: int, height: int) -> list[Line]:
    """The newest lines of the log that match level and search."""
    look, lang = view.look, view.lang
    note: Line = [(say("ui_follow" if look.log_back == 0 else "ui_back", lang, lines=look.log_back), "accent")]
    if look.search:
        note = [(f"/{safe(look.search, 20)} ", "warn"), *note]
    if look.level != "notes":
        note = [(say(f"ui_level_{look.level}", lang) + " ", "warn"), *note]
    body = log_lines(view, width - 4, height - 2)
    return frame([(say("ui_log_panel", lang), "head")], body, width, height, note)


ROLES = {"step": "dim", "note": "", "data": "", "warning": "warn", "error": "bad"}


def matching(log: Sequence[LogLine], look: Look) -> list[LogLine]:
    """The lines of the log that are to be shown."""
    wanted = {"all": set(ROLES), "notes": {"note", "data", "warning", "error"}, "warnings": {"warning", "error"}}
    words = look.search.lower()
    return [line for line in log if line.level in wanted[look.level] and words in line.text.lower()]


def shown_lines(view: RunView) -> list[LogLine]:
    """These lines, with notes in place of the lines that are not held."""
    look, earlier, lang = view.look, view.earlier, view.lang
    found = matching(view.log, look)
    if not found and look.search:
        found = [_gap(say("ui_no_line", lang, words=safe(look.search, 40)))]
    for key, gap in (("ui_gap_steps", earlier.steps), ("ui_gap_lines", earlier.notes)):
        if gap.lines and (look.level == "all" or gap is earlier.notes):
            place = bisect_left(found, gap.before, key=attrgetter("number"))
            words = say(key, lang, count=gap.lines, run=safe(view.run.name, 40))
            found.insert(place, _gap(words, gap.before))
    if earlier.read < 1:
        found.insert(0, _gap(say("ui_reading_earlier", lang, percent=f"{100 * earlier.read:.0f}"), -(1 << 62)))
    return found


def _gap(words: str, number: int = 0) -> LogLine:
    return LogLine("", "gap", words, number)


def log_lines(view: RunView, width: int, height: int) -> list[Line]:
    """The given number of lines, the newest last; in full if the log fills the screen, else one line each."""
    found = shown_lines(view)
    end = max(0, len(found) - view.look.log_back)
    lines: list[Line] = []
    for line in reversed(found[max(0, end - height) : end]):
        lines = [*_log_entry(view, line, width), *lines]
        if len(lines) >= height:
            return [fit(part, width) for part in lines[-height:]]
    for line in found[end : end + height - len(lines)]:  # nothing is left above it
        lines += _log_entry(view, line, width)
    return [fit(line, width) for line in lines[:height]]


def _log_entry(view: RunView, line: LogLine, width: int) -> list[Line]:
    most = MOST_LOG_LINES if view.look.page == "log" else 1
    indent = len(line.at) + 1 if line.at else 0
    parts = wrapped(line.text, max(8, width - indent), most) if most > 1 else [line.text]
    role = ROLES.get(line.level, "dim")
    at: Line = [(f"{line.at} ", "dim")] if line.at else []
    return [[*at, (parts[0], role)], *([(" " * indent, ""), (part, role)] for part in parts[1:])]


def _most_back(view: RunView, found: Sequence[LogLine], width: int, height: int) -> int:
    """The number of lines to scroll back until the first line is at the top."""
    rows = 0
    for place, line in enumerate(found):
        rows += len(_log_entry(view, line, width))
        if rows > height:
            return len(found) - max(1, place)
        if place >= height:
            break
    return 0


def most_back(view: RunView, width: int, height: int) -> int:
    """The number of lines the log can scroll back, on a screen of this size without its footer."""
    inner, rows = log_room(view, width, height)
    return _most_back(view, shown_lines(view), inner, rows)


def log_room(view: RunView, width: int, height: int) -> tuple[int, int]:
    """Columns and lines inside the log panel."""
    body = height - len(header(view, width))
    if view.look.page != "all":
        return width - 4, body - 2
    if width >= WIDE and height >= TALL:
        return width - width // 2 - 4, body - body * 3 // 5 - 2
    return width - 4, (5 if body >= 15 else 3) - 2
