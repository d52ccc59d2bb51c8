"""Curves of a run for the charts: bounded in size however long the run is, and kept with the snapshot of its state."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple

from engine.contract import events
from engine.contract.bounds import EXACT, LARGEST, Between, Count, Longest, Positive, Real, reader
from engine.contract.events import Record

MOST_BUCKETS = 2048
MOST_EVALUATIONS = 512
MOST_READINGS = 120


def _padding(step: events.Step) -> float:
    return 1 - step.tokens / step.padded_tokens if step.padded_tokens > 0 else math.nan


@dataclass(frozen=True)
class Metric:
    """A value of every step, of which there is a curve."""

    of: Callable[[events.Step], float]
    noisy: bool = True  # measured, not computed
    is_share: bool = False  # from 0 to 1


METRICS = {
    "loss": Metric(lambda step: step.loss),
    "lr": Metric(lambda step: step.lr, noisy=False),
    "grad_norm": Metric(lambda step: step.grad_norm),
    "rate": Metric(lambda step: step.tokens_per_second or math.nan),
    "padding": Metric(_padding, is_share=True),
}
_Buckets = Annotated[list[list[Annotated[float, Between(-LARGEST * EXACT, LARGEST * EXACT)]]], Longest(MOST_BUCKETS)]
_Evaluations = list[tuple[Real | None, ...]]


class Bucket(NamedTuple):
    """Range and sum of the values of consecutive steps; `known` of them are finite, `bad` are not."""

    low: float
    high: float
    total: float
    known: int
    bad: int

    @property
    def mean(self) -> float:
        """The mean of the finite values."""
        return self.total / self.known if self.known else math.nan

    def plus(self, other: "Bucket") -> "Bucket":
        """This bucket and another merged."""
        counts = (self.total + other.total, self.known + other.known, self.bad + other.bad)
        return Bucket(min(self.low, other.low), max(self.high, other.high), *counts)


EMPTY = Bucket(math.inf, -math.inf, 0.0, 0, 0)


@dataclass
class Curve:
    """One value per step, in buckets of `width` steps; the width doubles when there are too many buckets."""

    width: int = 1
    buckets: list[Bucket] = field(default_factory=list)  # of the steps 1 … width, width + 1 …
    last: int = 0  # the newest step

    def add(self, step: int, value: float) -> None:
        """Adds the value of a step (from 1); a step that was added before discards it and every later one."""
        place = (step - 1) // self.width
        if step <= self.last:
            del self.buckets[place:]
        while place >= MOST_BUCKETS:
            self._halve()
            place = (step - 1) // self.width
        while len(self.buckets) <= place:
            self.buckets.append(EMPTY)
        good = math.isfinite(value)
        one = Bucket(value, value, value, 1, 0) if good else EMPTY._replace(bad=1)
        self.buckets[place] = self.buckets[place].plus(one)
        self.last = step

    def _halve(self) -> None:
        pairs = zip(self.buckets[::2], [*self.buckets[1::2], EMPTY], strict=False)
        self.buckets = [first.plus(second) for first, second in pairs]
        self.width *= 2

    def between(self, first: int, last: int, columns: int) -> list[Bucket]:
        """The steps `first` … `last` in the given number of columns of equal length."""
        found = [EMPTY] * columns
        span = max(1, last - first + 1)
        for place in range(max(0, (first - 1) // self.width), min(len(self.buckets), 1 + (last - 1) // self.width)):
            begins = max(first, place * self.width + 1)
            column = (begins - first) * columns // span
            found[column] = found[column].plus(self.buckets[place])
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain values; infinities become None."""
        return {"width": self.width, "last": self.last, "buckets": [_plain(bucket) for bucket in self.buckets]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Curve":
        """What `to_json` gave; raises KeyError, TypeError or ValueError."""
        width, last = reader(Positive)(value["width"]), reader(Count)(value["last"])
        buckets = [_bucket(one) for one in reader(_Buckets)(value["buckets"])]
        return cls(width, buckets, last)


def _plain(bucket: Bucket) -> list[float]:
    return [bucket.low, bucket.high, bucket.total, bucket.known, bucket.bad] if bucket.known else [bucket.bad]


def _bucket(value: list[float]) -> Bucket:
    if len(value) == 1:
        return EMPTY._replace(bad=int(value[0]))
    low, high, total, count, bad = value
    if count < 1 or bad < 0 or low > high:
        raise ValueError("not a bucket")
    return Bucket(low, high, total, int(count), int(bad))


@dataclass
class Curves:
    """All curves of a run, its evaluations, and the newest readings of its memory in bytes."""

    of: dict[str, Curve] = field(default_factory=lambda: {name: Curve() for name in METRICS})
    evaluations: list[tuple[int, float]] = field(default_factory=list)  # step, loss
    memory: list[list[int]] = field(default_factory=list)  # of each rank
    host: list[int] = field(default_factory=list)  # in use on the machine

    def add(self, record: Record) -> None:
        """Applies one event."""
        match record.event:
            case events.Step() as step if step.step > 0:
                for name, metric in METRICS.items():
                    self.of[name].add(step.step, metric.of(step))
            case events.Eval() as score:
                kept = [one for one in self.evaluations if one[0] < score.step]
                self.evaluations = [*kept, (score.step, score.loss)][-MOST_EVALUATIONS:]
            case events.Host() as host:
                self.memory = [*self.memory, list(host.rank_memory)][-MOST_READINGS:]
                self.host = [*self.host, host.memory_total - host.memory_available][-MOST_READINGS:]

    def copy(self) -> "Curves":
        """A copy as of now, for a reader in another thread while this one grows."""
        curves = {name: Curve(curve.width, list(curve.buckets), curve.last) for name, curve in self.of.items()}
        return Curves(curves, list(self.evaluations), list(self.memory), list(self.host))

    def to_json(self) -> dict[str, Any]:
        """As plain values, for a snapshot."""
        curves = {name: curve.to_json() for name, curve in self.of.items()}
        finite = [[step, loss if math.isfinite(loss) else None] for step, loss in self.evaluations]
        return {"of": curves, "evaluations": finite, "memory": self.memory, "host": self.host}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Curves":
        """What `to_json` gave; raises KeyError, TypeError or ValueError."""
        curves = {name: Curve.from_json(value["of"][name]) for name in METRICS}
        evaluations = [_evaluation(*one) for one in reader(_Evaluations)(value["evaluations"])]
        memory = reader(list[list[Count]])(value["memory"])
        host = reader(list[int])(value["host"])
        return cls(curves, evaluations[-MOST_EVALUATIONS:], memory[-MOST_READINGS:], host[-MOST_READINGS:])


def _evaluation(step: float | None, loss: float | None) -> tuple[int, float]:
    return int(step or 0), math.nan if loss is None else loss
