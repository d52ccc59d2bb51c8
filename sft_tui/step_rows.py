"""Which rows made the loss of a step: the rows that a run kept, each with its share."""

import math
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from engine.contract.messages import InputError
from engine.contract.row_losses import RowLoss, StepRows
from engine.contract.texts import Lang, say
from engine.contract.weighed import RowBeginning
from sft_tui.text import cut, safe, width

DEVIATIONS, LEAST_TIMES = 5.0, 1.5  # above the median loss of a token, and times it, from which a row is an outlier
MARKERS = re.compile(r"<\|[^<>|]{1,40}\|>")  # of a chat template, which leave no room for what a row is about
# A marker of which a text has only one end: a row may begin within one, and its text is cut.
HALF_MARKERS = re.compile(r"\A[^<>|\s]{0,40}\|>|<(?:\|[^<>|\s]{0,40}\|?)?\Z")
# What some templates write between a marker and a turn's text.
ROLE = re.compile(r"\A\s*(?:system|developer|user|human|assistant|model|tool)[ \t]*(?:\n|\Z)")
GIVEN, LINE = 60, 400  # characters of what comes before the learned text, and of both
COLUMNS = ("share", "loss", "tokens", "row", "text")
MOST_RANGES = 6  # of kept steps that are named


@dataclass(frozen=True)
class SharedRow:
    """A row of a step: its share of the loss of all steps shown, and whether its tokens' loss is far above the others'.

    The share is from 0 to 1, NaN if a loss is not finite.
    """

    step: int
    row: RowLoss
    share: float
    outlier: bool


def chosen(kept: Sequence[StepRows], step: int, last: int = 0) -> list[StepRows]:
    """The kept steps from `step` to `last`, or `step` alone; the newest for 0."""
    if not step:
        return list(kept[-1:])
    return [one for one in kept if step <= one.step <= max(step, last)]


def shared(steps: Sequence[StepRows]) -> list[SharedRow]:
    """The rows of some steps by falling share, those whose loss is not finite first."""
    whole = sum(one.loss * one.tokens for one in steps)
    rows = [(one.step, row) for one in steps for row in one.rows]
    line = _outliers_from([row.mean for _, row in rows])
    found = [
        SharedRow(step, row, _share(row.loss, whole), not math.isfinite(row.mean) or row.mean > line)
        for step, row in rows
    ]
    return sorted(found, key=lambda one: -one.row.loss if math.isfinite(one.row.loss) else -math.inf)


def _share(loss: float, whole: float) -> float:
    if not (math.isfinite(loss) and math.isfinite(whole)):
        return math.nan
    return min(1.0, max(0.0, loss / whole)) if whole > 0 else 0.0


def _outliers_from(means: Sequence[float]) -> float:
    """The loss of a token above which a row is an outlier."""
    finite = [mean for mean in means if math.isfinite(mean)]
    if not finite:
        return math.inf
    middle = statistics.median(finite)
    deviation = statistics.median(abs(mean - middle) for mean in finite)
    return max(middle + DEVIATIONS * deviation, LEAST_TIMES * middle)


def neighbour(kept: Sequence[StepRows], step: int, by: int, *, spikes: bool = False) -> int:
    """The kept step after this one, or before it if `by` is negative; itself if there is none."""
    steps = [one.step for one in kept if one.spike or not spikes]
    found = [one for one in steps if one > step] if by > 0 else [one for one in reversed(steps) if one < step]
    return found[0] if found else step


def require_kept(run: str, kept: Sequence[StepRows], step: int, last: int = 0) -> list[StepRows]:
    """The kept steps that were asked for; raises InputError if there are none."""
    if not kept:
        raise InputError("rows_none_kept", run=run)
    found = chosen(kept, step, last)
    if not found:
        raise InputError("rows_step_unkept", run=run, step=step, kept=ranges(kept))
    return found


def ranges(kept: Sequence[StepRows]) -> str:
    """The kept steps as text: `17, 40, 801-1000`; the oldest of many are left out."""
    found: list[list[int]] = []
    for one in kept:
        if found and one.step == found[-1][1] + 1:
            found[-1][1] = one.step
        else:
            found.append([one.step, one.step])
    shown = [f"{first}" if first == last else f"{first}-{last}" for first, last in found]
    return ", ".join((["…"] if len(shown) > MOST_RANGES else []) + shown[-MOST_RANGES:])


def percent(share: float) -> str:
    """A share as text: `12.3 %`."""
    return "-" if math.isnan(share) else f"{100 * share:.1f} %"


def loss_text(loss: float) -> str:
    """A loss as text: `2.314`, `nan`."""
    return f"{loss:.3f}" if math.isfinite(loss) else str(loss)


def heading(steps: Sequence[StepRows], lang: Lang) -> str:
    """What is shown of a step, or of several: numbers, loss, rows."""
    whole, tokens = sum(one.loss * one.tokens for one in steps), sum(one.tokens for one in steps)
    counts = {"rows": f"{sum(one.count for one in steps):,}", "loss": loss_text(whole / max(1, tokens))}
    first, last = steps[0], steps[-1]
    if len(steps) > 1:
        return say("rows.steps", lang, first=f"{first.step:,}", last=f"{last.step:,}", **counts)
    key = "rows.spike" if first.spike else "rows.step"
    return say(key, lang, step=f"{first.step:,}", epoch=first.epoch, **counts)


def table(rows: Sequence[SharedRow], begun: Mapping[int, RowBeginning], columns: int, lang: Lang) -> Iterator[str]:
    """The rows as a table of that width; an outlier begins with `!`."""
    cells = [tuple(say(f"rows.column.{name}", lang) for name in COLUMNS)]
    cells += [(*numbers(one), beginning(begun.get(one.row.sample), lang)) for one in rows]
    widths = [max(width(row[place]) for row in cells) for place in range(4)]
    marks = [" ", *("!" if one.outlier else " " for one in rows)]
    for mark, row in zip(marks, cells, strict=True):
        numeric = (" " * (most - width(cell)) + cell for cell, most in zip(row, widths, strict=False))
        yield cut("  ".join((mark + next(numeric), *numeric, row[4])), columns).rstrip()


def numbers(one: SharedRow) -> tuple[str, str, str, str]:
    """The share of a row, its loss of a token, its learned tokens, and its number."""
    return percent(one.share), loss_text(one.row.mean), f"{one.row.tokens:,}", str(one.row.row)


def beginning(begun: RowBeginning | None, lang: Lang) -> str:
    """What a row is about, on one line: the last turn before its learned text, and that."""
    if begun is None:
        return ""
    if begun.changed:
        return say("rows.changed", lang)
    *before, given = _turns(begun.given) or [""]
    if len(given) > GIVEN:
        given = f"{given[:GIVEN]}…" if before else f"…{given[-GIVEN:]}"  # of a single text, what is next to the answer
    parts = given, _plain(begun.learned).strip()
    return safe(" → ".join(filter(None, parts)), LINE)


def _turns(given: str) -> list[str]:
    """The texts between the markers of a chat template that say something, each on one line."""
    turns = (" ".join(ROLE.sub("", HALF_MARKERS.sub(" ", turn)).split()) for turn in MARKERS.split(given))
    return [turn for turn in turns if turn]


def _plain(text: str) -> str:
    """A text without the markers of a chat template."""
    return HALF_MARKERS.sub(" ", MARKERS.sub(" ", text))
