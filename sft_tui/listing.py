"""Runs as text: the table of all runs, and a run's status line, log and end."""

import sys
import time

from engine.contract import events
from engine.contract.files import end_of_hole, open_regular, unreadable
from engine.contract.rundir import RunDir
from engine.contract.scores import score_phrase
from engine.contract.stream import EventReader
from engine.contract.texts import Lang, say
from sft_tui import runs, text
from sft_tui.event_text import phase_name, status_name, time_left
from sft_tui.headless import JsonView, PlainView
from sft_tui.output import write_line
from sft_tui.runs import Run

COLUMNS = ("run", "preset", "status", "step", "eval", "best", "started", "ended")
POLL_SECONDS = 0.2
READ_BYTES = 4 << 20


def table(found: list[Run], lang: Lang, columns: int = 0) -> list[str]:
    """One line per run under a line of headings, at most the given number of columns wide (0: no limit)."""
    rows = [[say(f"column.{column}", lang) for column in COLUMNS], *(cells(run, lang) for run in found)]
    widths = [max(text.width(row[place]) for row in rows) for place in range(len(COLUMNS))]
    lines = ["  ".join(text.pad(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [text.cut(line, columns) for line in lines] if columns else lines


def cells(run: Run, lang: Lang) -> list[str]:
    """The cells of a run in the table, by column."""
    state, step = run.state, run.state.step
    ended = state.ended.message.what(lang) if state.ended and not run.alive else ""
    return [
        text.safe(run.name, 60),
        text.safe(run.record.preset, 30),
        status_name(run.status, lang),
        f"{step.step}/{step.steps_total}" if step else "-",
        eval_loss(run),
        best_score(run, lang),
        text.safe(state.began_at[:16].replace("T", " ")) or "-",
        text.safe(ended, 120),
    ]


def eval_loss(run: Run) -> str:
    """The loss of its newest evaluation."""
    return f"{run.state.evaluation.loss:.4f}" if run.state.evaluation else "-"


def best_score(run: Run, lang: Lang) -> str:
    """What decided that its best evaluation is the best."""
    return score_phrase(run.state.best).text(lang) if run.state.best else "-"


def status_line(run: Run, lang: Lang) -> str:
    """The state of a run, on one line."""
    state, step = run.state, run.state.step
    parts = [f"{text.safe(run.name)} {status_name(run.status, lang)}"]
    if run.alive and not state.under_way:
        parts.append(phase_name(state.phase.name, lang))
    if step is not None:
        percent = f"{100 * step.step / step.steps_total:.0f} %" if step.steps_total else ""
        place = {"epoch": step.epoch, "epochs": state.epochs, "step": step.step, "total": step.steps_total}
        parts.append(say("app.status_place", lang, **place, percent=percent))
    if step is not None and run.alive:
        parts.append(say("app.status_train", lang, loss=f"{step.loss:.4f}"))
    if state.evaluation is not None:
        parts.append(say("app.status_scores", lang, loss=eval_loss(run), best=best_score(run, lang)))
    if run.alive:
        parts.append(time_left(state, lang))
    return " · ".join(filter(None, parts))


def print_events(run_dir: RunDir, lang: Lang, *, json: bool) -> None:
    """Prints the events so far, as plain lines or raw."""
    view = JsonView(sys.stdout) if json else PlainView(lang, sys.stdout, sys.stdout)
    reader = EventReader(run_dir.events)
    while records := reader.poll(READ_BYTES):
        for record in records:
            view.show(record)


def print_output(run_dir: RunDir) -> None:
    """Prints what the trainer's processes wrote, line by line, made harmless; raises InputError."""
    try:
        fd = open_regular(run_dir.trainer_output)
    except FileNotFoundError:
        return
    except OSError as error:
        raise unreadable(run_dir.trainer_output, error) from None
    with open(fd, "rb") as lines:
        while line := lines.readline(READ_BYTES):
            if len(line) == READ_BYTES and not any(line):  # a hole in a sparse file, which may be terabytes long
                lines.seek(end_of_hole(fd, lines.tell()))
                continue
            write_line(text.safe(line.decode("utf-8", "replace").rstrip("\n")), sys.stdout)


def wait_for_end(run_dir: RunDir) -> events.RunEnded:
    """The end of a run that was asked to end, once none of its processes is left."""
    while True:
        run = runs.read_run(run_dir)
        if not run.alive and run.state.ended is not None:
            return run.state.ended
        time.sleep(POLL_SECONDS)
