"""Curves of a run for the charts: bounded in size however long the run is, and kept with the snapshot of its state."""

import base64
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple

from engine.contract import events
from engine.contract.bounds import EXACT, LARGEST, Count, Longest, Name, Positive, Real, as_json, reader
from engine.contract.events import Record
from engine.contract.scores import MEASURES, all_measures

MOST_BUCKETS = 2048
MOST_READ_BUCKETS = 512  # of a curve of readings, of which there are many
MOST_EVALUATIONS = 512
MOST_READINGS = 256
MOST_CHARTED = 8  # ranks and GPUs that have curves
MACHINE = "machine"  # the curve of the whole machine's memory; those of ranks and GPUs have their numbers


def _padding(step: events.Step) -> float:
    return 1 - step.tokens / step.padded_tokens if step.padded_tokens > 0 else math.nan


@dataclass(frozen=True)
class Metric:
    """A value of every step, of which there is a curve."""

    of: Callable[[events.Step], float]
    noisy: bool = True  # measured, not computed


METRICS = {
    "loss": Metric(lambda step: step.loss),
    "lr": Metric(lambda step: step.lr, noisy=False),
    "grad_norm": Metric(lambda step: step.grad_norm),
    "rate": Metric(lambda step: step.tokens_per_second or math.nan),
    "padding": Metric(_padding),
}
# Measures that evaluations may have next to the loss, which is in the chart of the steps' losses.
SCORES = ("bleu", *(name for name in MEASURES if name not in ("loss", "bleu", "perplexity")), "perplexity")
GPU_READINGS = {
    "gpu_load": "utilization", "gpu_memory": "memory_used", "gpu_power": "power", "gpu_temperature": "temperature"
}  # fmt: skip
READINGS = ("memory", *GPU_READINGS)
CHARTS = ("loss", *SCORES, "lr", "grad_norm", "rate", *READINGS, "padding")  # in the order in which they are shown
READ_OF = {MACHINE, *map(str, range(MOST_CHARTED))}
_PACKED = struct.Struct("<dddqq")  # a bucket: numbers in text would take most of the time in which a long run opens
_Packed = Annotated[str, Longest(MOST_BUCKETS * _PACKED.size * 4 // 3 + 4)]


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
    most: int = MOST_BUCKETS
    # What was asked for last: the screen asks for the same with every key.
    _drawn: dict[tuple[int, int, int], list[Bucket]] = field(default_factory=dict, repr=False, compare=False)

    def add(self, step: int, value: float) -> None:
        """Adds the value of a step (from 1); a step that was added before discards it and every later one."""
        if step <= self.last:
            del self.buckets[(step - 1) // self.width :]
        self._put(step, value)

    def add_reading(self, step: int, value: float) -> None:
        """Adds one more value of a step (from 1); discards those of later steps."""
        if step < self.last:
            del self.buckets[1 + (step - 1) // self.width :]
        self._put(step, value)

    def _put(self, step: int, value: float) -> None:
        self._drawn.clear()
        place = (step - 1) // self.width
        while place >= self.most:
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
        asked = (first, last, columns)
        if asked not in self._drawn:
            self._drawn.clear()
            self._drawn[asked] = self._between(*asked)
        return self._drawn[asked]

    def _between(self, first: int, last: int, columns: int) -> list[Bucket]:
        found = [EMPTY] * columns
        span, width = max(1, last - first + 1), self.width
        place, end = max(0, (first - 1) // width), min(len(self.buckets), 1 + (last - 1) // width)
        while place < end:
            column = (max(first, place * width + 1) - first) * columns // span
            begins = first - (-(column + 1) * span // columns)  # the first step of the next column
            following = max(place + 1, min(end, -(-(begins - 1) // width)))
            found[column] = merged(self.buckets[place:following])
            place = following
        return found

    def at(self, first: int, last: int) -> tuple[Bucket, int, int]:
        """What is known of the steps `first` … `last`, and the steps that this is of, if single ones are not kept.

        It is of the buckets that begin within, as in a column of `between`, or else of the one that they are in.
        """
        begin, end = -(-(first - 1) // self.width), (last - 1) // self.width
        begin = min(begin, end)
        found = merged(self.buckets[max(0, begin) : max(0, end + 1)])
        return found, begin * self.width + 1, max(begin * self.width + 1, min((end + 1) * self.width, self.last))

    def mean_before(self, step: int, over: int) -> float:
        """The exponential mean over this many steps of the values before a step; NaN if there are none."""
        mean = math.nan
        end = max(0, (step - 1) // self.width)
        for bucket in self.buckets[max(0, end - 1 - 4 * over // self.width) : end]:
            mean = averaged(mean, bucket, over)
        return mean

    def copy(self) -> "Curve":
        """A copy as of now."""
        return Curve(self.width, list(self.buckets), self.last, self.most)

    def to_json(self) -> dict[str, Any]:
        """Plain values; the buckets are packed."""
        packed = b"".join(_PACKED.pack(*bucket) for bucket in self.buckets)
        return {"width": self.width, "last": self.last, "buckets": base64.b64encode(packed).decode()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], most: int = MOST_BUCKETS) -> "Curve":
        """What `to_json` gave, of at most this many buckets; raises KeyError, TypeError or ValueError."""
        width, last = reader(Positive)(value["width"]), reader(Count)(value["last"])
        packed = base64.b64decode(reader(_Packed)(value["buckets"]), validate=True)
        if len(packed) % _PACKED.size:
            raise ValueError("not buckets")
        buckets = list(map(Bucket._make, _PACKED.iter_unpack(packed)))
        Longest(most)(buckets)
        if not all(map(_is_sound, buckets)):
            raise ValueError("not buckets")
        return cls(width, buckets, last, most)


def merged(buckets: Sequence[Bucket]) -> Bucket:
    """One bucket of the values of several."""
    if len(buckets) <= 1:
        return buckets[0] if buckets else EMPTY
    lows, highs, totals, known, bad = zip(*buckets, strict=True)
    return Bucket(min(lows), max(highs), sum(totals), sum(known), sum(bad))


def averaged(mean: float, bucket: Bucket, over: int) -> float:
    """An exponential mean over `over` steps (0: none), continued by the values of a bucket as if all were its mean."""
    if not bucket.known:
        return mean if not bucket.bad else math.nan
    if over <= 1 or not math.isfinite(mean):
        return bucket.mean
    return mean + (bucket.mean - mean) * (1 - (1 - 1 / over) ** bucket.known)


def gpu_number(gpu: events.Gpu, name: str) -> float | None:
    """A reading of a GPU as a number; None if the driver did not give one."""
    try:
        value = float(gpu.readings.get(name, ""))
    except ValueError:
        return None
    return value if math.isfinite(value) and 0 <= value < 1e15 else None


def _is_sound(bucket: Bucket) -> bool:
    """Whether a bucket that was read could have been written; comparisons with NaN are false."""
    low, high, total, known, bad = bucket
    if known == 0:
        return bucket[:4] == EMPTY[:4] and 0 <= bad <= EXACT
    largest = LARGEST * EXACT
    return -largest <= low <= high <= largest and -largest <= total <= largest and 0 < known <= EXACT >= bad >= 0


@dataclass(frozen=True)
class Evaluated:
    """The measures of an evaluation, by name; the loss is one of them."""

    step: Count
    values: Annotated[dict[Name, Real], Longest(len(MEASURES))]


@dataclass
class Curves:
    """All curves of a run, its evaluations, and the readings of memory and GPUs of rank 0's machine."""

    of: dict[str, Curve] = field(default_factory=lambda: {name: Curve() for name in METRICS})
    evaluations: list[Evaluated] = field(default_factory=list)
    memory: list[list[int]] = field(default_factory=list)  # the newest of each rank, in bytes
    host: list[int] = field(default_factory=list)  # the newest in use on the machine, in bytes
    readings: dict[str, dict[str, Curve]] = field(default_factory=dict)  # of READINGS: MACHINE, or numbers

    def add(self, record: Record) -> None:
        """Applies one event."""
        match record.event:
            case events.Step() as step if step.step > 0:
                for name, metric in METRICS.items():
                    self.of[name].add(step.step, metric.of(step))
            case events.Eval() as score:
                kept = [one for one in self.evaluations if one.step < score.step]
                values = {name: measured.value for name, measured in all_measures(score).items()}
                self.evaluations = [*kept, Evaluated(score.step, values)][-MOST_EVALUATIONS:]
            case events.Host(machine=0) as host:
                used = host.memory_total - host.memory_available
                self.memory = [*self.memory, list(host.rank_memory)][-MOST_READINGS:]
                self.host = [*self.host, used][-MOST_READINGS:]
                self._read("memory", MACHINE, used)
                for rank, memory in host.memory_of_ranks:
                    if rank < MOST_CHARTED:
                        self._read("memory", str(rank), memory)
            case events.Gpu(machine=0) as gpu if gpu.index < MOST_CHARTED:
                for name, reading in GPU_READINGS.items():
                    value = gpu_number(gpu, reading)
                    if value is not None:
                        self._read(name, str(gpu.index), value)

    def _read(self, metric: str, name: str, value: float) -> None:
        """Adds a reading at the newest step."""
        curves = self.readings.setdefault(metric, {})
        if name not in curves:
            curves[name] = Curve(most=MOST_READ_BUCKETS)
        curves[name].add_reading(max(1, self.of["loss"].last), value)

    @property
    def charts(self) -> list[str]:
        """The names of what this run has charts of: in `CHARTS`, and everything of the steps."""
        scored = {name for one in self.evaluations for name in one.values}
        return [name for name in CHARTS if name in METRICS or name in scored or name in self.readings]

    def copy(self) -> "Curves":
        """A copy as of now, for a reader in another thread while this one grows."""
        curves = {name: curve.copy() for name, curve in self.of.items()}
        readings = {metric: {name: curve.copy() for name, curve in of.items()} for metric, of in self.readings.items()}
        return Curves(curves, list(self.evaluations), list(self.memory), list(self.host), readings)

    def to_json(self) -> dict[str, Any]:
        """As plain values, for a snapshot; floats are left as they are."""
        curves = {name: curve.to_json() for name, curve in self.of.items()}
        readings = {
            metric: {name: curve.to_json() for name, curve in of.items()} for metric, of in self.readings.items()
        }
        plain = {"evaluations": as_json(self.evaluations), "memory": self.memory, "host": self.host}
        return {"of": curves, "readings": readings, **plain}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Curves":
        """What `to_json` gave; raises KeyError, TypeError or ValueError."""
        curves = {name: Curve.from_json(value["of"][name]) for name in METRICS}
        evaluations = reader(list[Evaluated])(value["evaluations"])
        memory = reader(list[list[Count]])(value["memory"])
        host = reader(list[int])(value["host"])
        found = reader(dict[Name, dict[Name, Any]])(value["readings"])
        if not set(found) <= set(READINGS) or any(not set(of) <= READ_OF for of in found.values()):
            raise ValueError("not readings")
        readings = {
            metric: {name: Curve.from_json(one, MOST_READ_BUCKETS) for name, one in of.items()}
            for metric, of in found.items()
        }
        return cls(curves, evaluations[-MOST_EVALUATIONS:], memory[-MOST_READINGS:], host[-MOST_READINGS:], readings)
