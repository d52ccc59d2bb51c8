"""The losses of the rows of a run's newest steps and of its spikes: `rows-rank<N>.jsonl` in its folder, one a rank.

A line is a step. Each rank writes the rows that it computed, so that nothing is sent between ranks for it; a
reader puts the parts of a step together.
"""

import contextlib
import json
import math
import os
import statistics
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, NamedTuple

from engine.contract.bounds import Between, Count, Longest, Positive, Real, as_json, read_as
from engine.contract.files import open_to_append, read_whole, staged
from engine.contract.rundir import RunDir

KEPT_STEPS, KEPT_SPIKES = 200, 100
MOST_ROWS = 512  # of a rank in a step; of larger steps those with the highest losses
MOST_BYTES, MOST_IN_ALL = 32 << 20, 128 << 20  # of a file, and of the files of all ranks
MOST_RANKS = 1024
WINDOW, LEAST_SEEN = 50, 10  # steps whose losses say what is usual, and how many of them there must be
DEVIATIONS = 6.0  # medians of the absolute deviation above the median, from which a loss is a spike
LEAST_RISE = 0.05  # of the median: a smaller rise is never a spike, however steady the losses were
COMPACT_AFTER = 2  # times as many lines as are kept
RETRY_STEPS = 20  # between two tries to write to a full disk


@dataclass(frozen=True)
class RowLoss:
    """A row of a step: its number in the data file, its number in the token store, its learned tokens, and their loss.

    A conversation may be several rows, which have one number in the data file.
    """

    row: Count
    sample: Count
    tokens: Count
    loss: Real  # summed over its learned tokens

    @property
    def mean(self) -> float:
        """The loss of a token."""
        return self.loss / max(1, self.tokens)


@dataclass(frozen=True)
class StepRows:
    """The rows of a step, or those that one rank computed; `tokens` and `loss` (a mean) are those of the whole step."""

    step: Positive
    epoch: Positive
    loss: Real
    tokens: Count
    ranks: Annotated[int, Between(1, MOST_RANKS)] = 1
    spike: bool = False
    count: Count = 0  # of rows, also those that are not kept
    rows: Annotated[tuple[RowLoss, ...], Longest(MOST_ROWS * MOST_RANKS)] = ()
    parts: Annotated[int, Between(1, MOST_RANKS)] = 1  # ranks whose rows these are


class _Line(NamedTuple):
    loss: float
    spike: bool
    line: bytes


def line_of(rows: StepRows) -> bytes:
    """The line of a step, with its end; a row is a list of its four numbers."""
    values = as_json(replace(rows, rows=()))
    values["rows"] = [[one.row, one.sample, one.tokens, _short(one.loss)] for one in rows.rows]
    return json.dumps(values, separators=(",", ":")).encode("ascii") + b"\n"


def _short(loss: float) -> float:
    """A loss in nine digits, which hold any float32."""
    return float(f"{loss:.9g}")


def read_line(line: bytes) -> StepRows:
    """The line read back; raises TypeError, ValueError or OverflowError if it is not the line of a step."""
    values = json.loads(line)
    if not isinstance(values, dict) or not isinstance(values.get("rows"), list):
        raise TypeError("not a step")
    names = ("row", "sample", "tokens", "loss")
    rows = [dict(zip(names, one, strict=True)) for one in values["rows"] if isinstance(one, list)]
    return read_as(StepRows, {**values, "rows": rows})


def is_spike(loss: float, before: Sequence[float]) -> bool:
    """Whether the mean loss of a step is far above those of the steps before it; always if it is not a number."""
    if not math.isfinite(loss):
        return True
    seen = [one for one in before if math.isfinite(one)]
    if len(seen) < LEAST_SEEN:
        return False
    middle = statistics.median(seen)
    deviation = statistics.median(abs(one - middle) for one in seen)
    return loss > middle + max(DEVIATIONS * deviation, LEAST_RISE * abs(middle))


@dataclass
class RowLossFile:
    """The file of one rank: the newest steps and the spikes, appended to and seldom rewritten.

    It never stops a training: `why` says what the last write failed for.
    """

    path: Path
    newest: deque[_Line] = field(default_factory=deque)
    spikes: deque[_Line] = field(default_factory=deque)  # older than the newest
    lines: int = 0  # in the file
    whole: bool = True  # whether the file holds all steps that were added, and no others
    waits: int = 0  # steps until a failed write is tried again
    why: str = ""

    @classmethod
    def after(cls, path: Path, step: int) -> "RowLossFile":
        """The file as it is continued after `step` steps: those that will be computed again are dropped."""
        kept = cls(path)
        for rows in read_steps(path):
            if rows.step <= step:
                kept._take(rows)
        kept.whole = not os.path.lexists(path)
        return kept

    def add(self, rows: StepRows) -> None:
        """Adds a step, as a spike if it is one; never raises because of the disk."""
        recent = [line.loss for line in self.newest][-WINDOW:]
        spike, highest = is_spike(rows.loss, recent), _by_loss(rows.rows)[:MOST_ROWS]
        line = self._take(replace(rows, spike=spike, count=len(rows.rows), rows=highest))
        if self.waits:
            self.waits -= 1
            return
        try:
            self._write(line)
            self.why = ""
        except OSError as error:
            self.why, self.waits = error.strerror or str(error), RETRY_STEPS

    def _take(self, rows: StepRows) -> bytes:
        line = line_of(rows)
        self.newest.append(_Line(rows.loss, rows.spike, line))
        while len(self.newest) > KEPT_STEPS:
            left = self.newest.popleft()
            if left.spike:
                self.spikes.append(left)
        while len(self.spikes) > KEPT_SPIKES:
            self.spikes.popleft()
        return line

    def _write(self, line: bytes) -> None:
        if not self.whole or self.lines >= COMPACT_AFTER * (KEPT_STEPS + KEPT_SPIKES):
            self.rewrite()
            return
        self.whole = False  # until the line is written
        _append(self.path, line)
        self.lines, self.whole = self.lines + 1, True

    def rewrite(self) -> None:
        """Writes the steps that are kept into a new file in the place of the old one; raises OSError.

        A training waits for it, so nothing is synced: a machine that loses power may lose the file, and no more.
        """
        lines = [one.line for one in (*self.spikes, *self.newest)]
        place = staged(self.path)
        try:
            with place.open("xb") as file:
                file.writelines(lines)
            place.rename(self.path)
        finally:
            place.unlink(missing_ok=True)
        self.lines, self.whole = len(lines), True


def continued(run_dir: RunDir, rank: int, ranks: int, step: int) -> RowLossFile:
    """The file of one rank, continued after `step` steps; the first drops them from those of ranks that are no more."""
    if rank == 0:
        for other, path in run_dir.row_losses().items():
            if other >= ranks:
                with contextlib.suppress(OSError):
                    RowLossFile.after(path, step).rewrite()
    return RowLossFile.after(run_dir.row_losses_of(rank), step)


def _append(path: Path, line: bytes) -> None:
    fd = open_to_append(path)
    try:
        if os.write(fd, line) < len(line):
            raise OSError("short write")
    finally:
        os.close(fd)


def _by_loss(rows: Iterable[RowLoss]) -> tuple[RowLoss, ...]:
    """The rows by falling loss, those that are not numbers first."""
    return tuple(sorted(rows, key=lambda one: -one.loss if math.isfinite(one.loss) else -math.inf))


def read_steps(path: Path) -> list[StepRows]:
    """The steps in the file of one rank, in their order; lines that are none are skipped, and no file has none."""
    try:
        lines = read_whole(path, MOST_BYTES).splitlines()
    except OSError:
        return []
    found: dict[int, StepRows] = {}
    for line in lines:
        try:
            rows = read_line(line)
        except (TypeError, ValueError, OverflowError, RecursionError):
            continue
        found[rows.step] = rows
    return [found[step] for step in sorted(found)]


def steps_of(run_dir: RunDir) -> list[StepRows]:
    """All steps of a run whose rows are kept, in their order, each with the rows of all ranks by falling loss."""
    found: dict[int, StepRows] = {}
    left = MOST_IN_ALL
    for path in run_dir.row_losses().values():
        with contextlib.suppress(OSError):
            left -= path.lstat().st_size
        for rows in read_steps(path) if left >= 0 else ():
            other = found.get(rows.step)
            found[rows.step] = rows if other is None else _together(other, rows)
    return [found[step] for step in sorted(found)]


def _together(one: StepRows, other: StepRows) -> StepRows:
    rows, parts = _by_loss((*one.rows, *other.rows)), one.parts + other.parts
    spike, count = one.spike or other.spike, one.count + other.count
    return replace(one, spike=spike, count=count, rows=rows, parts=parts)
