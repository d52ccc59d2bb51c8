"""The screen of one run, as a pure function from its state to lines."""

import time
from dataclasses import replace
from itertools import groupby
from operator import attrgetter

from engine.contract import events
from engine.contract.texts import Lang, say
from sft_tui import event_text
from sft_tui.event_text import status_name
from sft_tui.screen import fix_keys, log_panel, paged
from sft_tui.screen.ink import Line, bar, columns, filled, fit, side_by_side
from sft_tui.screen.run_contents import RunView, Selection
from sft_tui.screen.run_layout import Area, areas
from sft_tui.text import safe
from sft_tui.wrapping import wrapped


def draw(view: RunView, width: int, height: int) -> list[Line]:
    """The screen without its footer, in exactly the given lines and columns."""
    head = header(view, width)
    lines = list(head)
    for _, row in groupby(areas(view.selection.page, width, height, len(head)), attrgetter("y")):
        lines += side_by_side(*(area.draw(view) for area in row))
    return filled(lines, width, height)


def areas_of(view: RunView, width: int, height: int) -> list[Area]:
    """Where the panels are on the screen without its footer."""
    return areas(view.selection.page, width, height, len(header(view, width)))


def area_at(view: RunView, width: int, height: int, x: int, y: int) -> Area | None:
    """The panel at a cell of the screen without its footer; None in the header."""
    return next((area for area in areas_of(view, width, height) if area.holds(x, y)), None)


def size_of(name: str, view: RunView, width: int, height: int) -> tuple[int, int]:
    """Columns and lines of a panel with its frame; 0 of both if it is not on such a screen."""
    found = (area for area in areas_of(view, width, height) if area.name == name)
    return next(((area.width, area.height) for area in found), (0, 0))


def within_limits(view: RunView, width: int, height: int) -> Selection:
    """What the user has selected, scrolled no further than the log or the page on such a screen can be."""
    selection, areas = view.selection, areas_of(view, width, height)
    log = next((area for area in areas if area.name == "log"), None)
    if selection.log_back and log is not None:
        selection = replace(selection, log_back=min(selection.log_back, log_panel.most_back(view, *log.inside)))
    if selection.scrolled and areas[0].panel.whole is not None:
        lines = len(areas[0].panel.whole(view, areas[0].inside[0]))
        most = paged.most_scrolled(lines, areas[0].height)
        selection = replace(selection, scrolled=min(selection.scrolled, most))
    return selection


def header(view: RunView, width: int) -> list[Line]:
    """What is running, and its progress; the certificate once it has ended."""
    run, state, lang = view.run, view.state, view.lang
    title: Line = [(f" {safe(run.name, 40)}", "head"), (" · ", "dim"), _status(view)]
    if run.alive and state.phase.name not in ("training", "starting"):
        title += [(" · ", "dim"), (event_text.phase_line(state.phase, lang), "")]
    if state.step is not None and state.epochs:
        title += [(" · ", "dim"), (say("app.bar_epoch", lang, epoch=state.step.epoch, epochs=state.epochs), "")]
    if view.reading < 1:
        title += [(" · ", "dim"), (say("screen.reading", lang, percent=f"{100 * view.reading:.0f}"), "warn")]
    room = width - columns(title) - 2
    right = next(text for text in _times(view) if columns([(text, "")]) <= room or not text)
    gap = room + 1 - columns([(right, "")])
    lines = [fit([*title, (" " * max(0, gap), ""), (f"{right} ", "dim")], width)]
    if state.ended is not None and not run.alive:
        return lines + certificate(state.ended, width, lang)
    return lines + _bars(view, width)


def _status(view: RunView) -> tuple[str, str]:
    if view.reading < 1 and not view.run.alive:
        return say("screen.reading_run", view.lang), "dim"
    status = view.run.status
    good = status in ("running", "finished", "starting", "finishing")
    role = "good" if good else "warn" if status in ("stopped", "paused", "stopping", "pausing", "orphaned") else "bad"
    sign = {"good": "✓ ", "warn": "! ", "bad": "✗ "}[role] if not view.run.alive else ""
    return sign + safe(status_name(status, view.lang), 40), role


def _times(view: RunView) -> list[str]:
    """When it began, the time left, and when it will be done, if known; followed by shorter versions."""
    state, lang = view.state, view.lang
    began = say("screen.started", lang, at=safe(state.began_at[5:16].replace("T", " "), 16)) if state.began_at else ""
    left = event_text.time_left(state, lang) if view.run.alive and state.ended is None else ""
    done = ""
    if left and view.now and state.seconds_left is not None and not state.evaluation_unknown:
        at = time.strftime("%m-%d %H:%M", time.localtime(view.now + state.seconds_left))
        done = say("screen.done", lang, at=at)
    choices = ((began, left, done), (left, done), (left,), ())
    return [" · ".join(filter(None, parts)) for parts in choices]


def _bars(view: RunView, width: int) -> list[Line]:
    state, lang = view.state, view.lang
    step, plan, phase = state.step, state.plan, state.phase
    done, total = (step.step, step.steps_total) if step else (0, plan.steps_total if plan else 0)
    parts = [(say("app.bar_run", lang), done, total)] if view.run.record.job == "train" else []
    if phase.name not in ("training", "starting", "saving") and phase.total:
        parts.insert(0, (event_text.phase_name(phase.name, lang), phase.done, phase.total))
    elif step is not None and plan is not None and plan.steps_per_epoch:
        within = step.step - (step.epoch - 1) * plan.steps_per_epoch
        length = min(plan.steps_per_epoch, total - (step.epoch - 1) * plan.steps_per_epoch)
        parts.insert(0, (say("screen.epoch", lang), within, length))
    each = (width - 1) // max(1, len(parts))
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
    lines: list[Line] = [[(f" {part}", role)] for part in wrapped(safe(end.message.what(lang), 600), width - 2, 3)]
    fix = safe(fix_keys.with_keys(end.message.fix(lang)), 600)
    if fix:
        lines += [[(f" {part}", "")] for part in wrapped(fix, width - 2, 3)]
    if end.apply:
        shown = ", ".join(f"{safe(name, 40)} = {safe(str(value), 40)}" for name, value in end.apply.items())
        lines.append([(" f ", "key"), (say("screen.apply", lang, settings=shown), "")])
    if end.exit_code:
        evidence = " ".join(event_text.evidence_words(end, lang))
        lines += [[(f" {part}", "dim")] for part in wrapped(safe(evidence, 600), width - 2, 2) if part]
    return [fit(line, width) for line in lines]
