"""Runs as text: the table of all runs, and a run's status line, log and end."""

import sys
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from engine.contract import events
from engine.contract.files import end_of_hole, open_regular, unreadable
from engine.contract.rundir import RunDir
from engine.contract.scores import score_phrase
from engine.contract.stream import EventReader
from engine.contract.texts import Lang, say
from sft_tui import log_search, runs, text
from sft_tui.event_text import phase_name, status_name, time_left
from sft_tui.headless import JsonView, PlainView
from sft_tui.notes import Note
from sft_tui.output import echo_json, write_line
from sft_tui.runs import Run

COLUMNS = ("run", "status", "step", "eval", "best", "time", "tags", "started", "preset", "ended")
UNNOTED = Note()
POLL_SECONDS = 0.2
READ_BYTES = 4 << 20


def table(
    found: list[Run], lang: Lang, columns: int = 0, notes: Mapping[str, Note] = MappingProxyType({})
) -> list[str]:
    """One line per run under a line of headings, at most the given number of columns wide (0: no limit)."""
    names = columns_of(found, notes)
    rows = [[say(f"column.{name}", lang) for name in names]]
    rows += [[one[name] for name in names] for one in (cells(run, lang, notes.get(run.name, UNNOTED)) for run in found)]
    widths = [max(text.width(row[place]) for row in rows) for place in range(len(names))]
    lines = ["  ".join(text.pad(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [text.cut(line, columns) for line in lines] if columns else lines


def columns_of(found: Sequence[Run], notes: Mapping[str, Note]) -> list[str]:
    """The columns of a table of runs: that of the tags only if a run has one."""
    tagged = any(notes[run.name].tags for run in found if run.name in notes)
    return [column for column in COLUMNS if tagged or column != "tags"]


def cells(run: Run, lang: Lang, note: Note = UNNOTED) -> dict[str, str]:
    """The cells of a run in the table, by column."""
    state, step = run.state, run.state.step
    ended = state.ended.message.what(lang) if state.ended and not run.alive else ""
    return {
        "run": text.safe(run.name, 60),
        "preset": text.safe(run.record.preset, 30),
        "status": status_name(run.status, lang),
        "step": f"{step.step}/{step.steps_total}" if step else "-",
        "eval": eval_loss(run),
        "best": best_score(run, lang),
        "time": time_taken(run),
        "tags": text.safe(" ".join(f"#{tag}" for tag in note.tags), 40),
        "started": text.safe(state.began_at[:16].replace("T", " ")) or "-",
        "ended": text.safe(ended, 120),
    }


def eval_loss(run: Run) -> str:
    """The loss of its best evaluation, or of the newest one if none was the best."""
    one = run.state.best or run.state.evaluation
    return f"{one.loss:.4f}" if one else "-"


def time_taken(run: Run) -> str:
    """The time that all its attempts took, without those between them."""
    return text.duration(run.state.seconds) if run.state.attempt else "-"


def best_score(run: Run, lang: Lang) -> str:
    """What decided that its best evaluation is the best."""
    return score_phrase(run.state.best).text(lang) if run.state.best else "-"


def status_line(run: Run, lang: Lang) -> str:
    """The state of a run, on one line."""
    state, step = run.state, run.state.step
    parts = [f"{text.safe(run.name)} {status_name(run.status, lang)}"]
    if run.alive and not state.under_way:
        waits = state.awaited.what(lang).rstrip(".。") if state.awaited else ""
        parts.append(text.safe(waits) or phase_name(state.phase.name, lang))
    if step is not None:
        percent = f"{100 * step.step / step.steps_total:.0f} %" if step.steps_total else ""
        place = {"epoch": step.epoch, "epochs": state.epochs, "step": step.step, "total": step.steps_total}
        parts.append(say("app.status_place", lang, **place, percent=percent))
    if step is not None and run.alive:
        parts.append(say("app.status_train", lang, loss=f"{step.loss:.4f}"))
    if state.evaluation is not None:
        newest = f"{state.evaluation.loss:.4f}"
        parts.append(say("app.status_scores", lang, loss=newest, best=best_score(run, lang)))
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


def print_found(run_dir: RunDir, lang: Lang, *, words: str, level: str, json: bool) -> int:
    """Prints the lines of the log that have the words and belong to a level, numbered; returns their count."""
    count = 0
    for number, line in log_search.matching(run_dir, words, level, lang):
        count += 1
        if json:
            echo_json({"line": number, "at": line.at, "level": line.level, "text": line.text})
        else:
            write_line(f"{number:>7}  {line.at}  {line.text}", sys.stdout)
    return count


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
