"""What keeps running after the screen was closed, and how to come back to it."""

import contextlib
import shlex
from collections.abc import Iterator
from pathlib import Path

from engine.contract.messages import InputError
from engine.contract.rundir import RunDir
from engine.contract.texts import Lang, say
from sft_tui import event_text, runs
from sft_tui.history import Follower
from sft_tui.queue.queue_file import QueueFolder
from sft_tui.run_state import RunState
from sft_tui.starting import DEFAULT_LOGS
from sft_tui.text import safe

MOST_LOOKED_AT = 50  # the newest runs; older ones are hardly alive
MOST_NAMED = 4
MOST_BYTES = 256 << 10  # of a stream, after its snapshot


def lines(logs: Path, lang: Lang) -> list[str]:
    """A line for each run that is alive, and one for the queue, with the commands that show and stop them; reads
    little of each.
    """
    found = list(_alive(logs))
    where = "" if logs == DEFAULT_LOGS else f" --logs {shlex.quote(str(logs))}"
    shown = [_line(name, state, where, lang) for name, state in found[:MOST_NAMED]]
    if len(found) > MOST_NAMED:
        shown.append(safe(say("app.more_running", lang, count=len(found) - MOST_NAMED, where=where), 400))
    folder = QueueFolder(logs)
    if folder.runs and (queue := folder.look()[0]).waiting:
        words = say("app.queue_keeps_running", lang, count=queue.still_waiting, where=where)
        shown.append(safe(words, 400))
    return shown


def _alive(logs: Path) -> Iterator[tuple[str, RunState]]:
    for name in runs.names(logs)[:MOST_LOOKED_AT]:
        with contextlib.suppress(InputError):
            run_dir = RunDir(logs / name)
            if runs.lives(run_dir, run_dir.read_record()):
                follower = Follower(run_dir)
                follower.poll(MOST_BYTES)
                yield name, follower.state


def _line(name: str, state: RunState, where: str, lang: Lang) -> str:
    step = state.step
    place = ""
    if step is not None:
        left = event_text.time_left(state, lang)
        parts = [say("app.running_step", lang, step=f"{step.step:,}", total=f"{step.steps_total:,}"), left]
        place = say("app.running_place", lang, place=say("list.separator", lang).join(filter(None, parts)))
    words = {"run": name, "place": place, "command": shlex.quote(name) + where}
    return safe(say("app.keeps_running", lang, **words), 600)
