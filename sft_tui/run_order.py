"""The order of runs in a list, and which of them a filter leaves."""

import math
from collections.abc import Mapping, Sequence

from engine.contract.scores import merit
from sft_tui.notes import Note
from sft_tui.runs import Run

ORDERS = ("started", "eval", "best", "time", "run")  # by the names of their columns


def ordered(found: Sequence[Run], by: str) -> list[Run]:
    """The runs by a column, the best first: the newest, the lowest loss, the best score, the longest, or by name.

    `found` is in the order of their start, the newest first, which decides between equal ones.
    """
    keys = {"eval": _loss, "best": _worth, "time": lambda run: -run.state.seconds, "run": lambda run: run.name}
    return sorted(found, key=keys[by]) if by in keys else list(found)


def _loss(run: Run) -> float:
    loss = run.state.best.loss if run.state.best else math.inf
    return math.inf if math.isnan(loss) else loss


def _worth(run: Run) -> tuple[str, float, float]:
    """Runs judged by the same measure stand together, those without an evaluation last."""
    best = run.state.best
    if best is None:
        return "~", 0.0, 0.0
    value = merit(best, best.best_by).value
    if math.isnan(value):
        return best.best_by, math.inf, _loss(run)
    return best.best_by, value if best.best_by == "loss" else -value, _loss(run)


def having(found: Sequence[Run], words: str, notes: Mapping[str, Note]) -> list[Run]:
    """The runs whose name, preset, state, tags or note have all of the words, whatever their case."""
    wanted = words.lower().split()
    return [run for run in found if all(word in _searched(run, notes.get(run.name, Note())) for word in wanted)]


def _searched(run: Run, note: Note) -> str:
    return " ".join([run.name, run.record.preset, run.status, note.line()]).lower()
