"""The events of a run, their line format, and the tolerant reading of one line.

A line is one JSON object, ASCII only (foreign text cannot reach a terminal raw through `tail -f`), under 64 KiB,
with the envelope `v at mono attempt src seq kind` next to the fields of the event. JSON has no NaN or
infinity: they are written as the strings "NaN", "Infinity" and "-Infinity".
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from engine.contract.bounds import Attempt, Between, Count, Name, Positive, Rate, Real, Score, Seconds, as_json, read_as
from engine.contract.config import require_values
from engine.contract.messages import Message
from engine.contract.scores import LABELS, Measures

SCHEMA = 1
MAX_LINE_BYTES = 64 * 1024
LONGEST_TEXT = 4000  # characters a text field may keep if its line would be too long
MOST_FIELDS = 64  # fields an event may keep in that case, and characters of their names
DEEPEST = 32  # levels of nesting a line may have
SHORTEST = 1e-9  # seconds of a step

Settings = Annotated[dict[str, Any], require_values]
ExitCode = Annotated[int, Between(-255, 255)]


EVENT_TYPES: dict[str, type["Event"]] = {}  # every kind of event, as its class declares it


@dataclass(frozen=True)
class Event:
    """What happened; `kind` names it on the wire."""

    kind: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        """Adds the class to the kinds that are read."""
        if cls.kind:
            EVENT_TYPES[cls.kind] = cls


@dataclass(frozen=True)
class RunStarted(Event):
    """An attempt began: which settings, versions, data and machine. Sizes in bytes."""

    kind: ClassVar[str] = "run_started"
    run: str
    preset: str
    job: str  # "train", "test" or "rehearse"
    config: Settings
    overrides: dict[str, Any]  # {setting: [old, new]}
    versions: dict[str, str]
    git_revision: str
    data: dict[str, str]  # {setting: sha256 of the file}
    world_size: Count
    device: str
    memory_available: Count
    disk_available: Count


@dataclass(frozen=True)
class Plan(Event):
    """What the attempt will do, known once model and data are read."""

    kind: ClassVar[str] = "plan"
    rows: Count
    steps_per_epoch: Positive
    steps_total: Count
    step: Count  # steps done before this attempt
    effective_batch: Count
    parameters: Count
    parameters_trained: Count
    precision: str
    micro_batch_tokens: Count


@dataclass(frozen=True)
class Phase(Event):
    """A long phase and its progress; `total` is 0 if unknown."""

    kind: ClassVar[str] = "phase"
    name: str
    done: Count = 0
    total: Count = 0


@dataclass(frozen=True)
class Step(Event):
    """One optimizer step: `loss` is the mean over all label tokens of the step, all ranks; times in seconds."""

    kind: ClassVar[str] = "step"
    epoch: Count
    step: Count
    steps_total: Count
    loss: Real
    lr: Rate
    grad_norm: Real
    label_tokens: Count
    tokens: Count  # prompt and label tokens, padding not counted
    padded_tokens: Count  # the same with padding
    seconds_data: Seconds
    seconds_forward_backward: Seconds
    seconds_optimizer: Seconds
    micro_batches: Count
    sample_ids: list[Count]
    seconds_communication: Seconds = 0.0  # several ranks waiting for each other and summing

    @property
    def seconds(self) -> float:
        """The whole step."""
        within = self.seconds_data + self.seconds_forward_backward + self.seconds_communication
        return within + self.seconds_optimizer

    @property
    def tokens_per_second(self) -> float:
        """Prompt and label tokens per second; 0 if the time is too short to measure."""
        return self.tokens / self.seconds if self.seconds > SHORTEST else 0.0


@dataclass(frozen=True)
class Eval(Event):
    """One evaluation; `loss` is the mean over label tokens, `bleu` comes with its `signature`.

    `against`: what replies were compared with, one of the constants of `contract.scores`; `measures`: everything else
    that was measured; `best_by`: the measure that decides which evaluation is the best.
    """

    kind: ClassVar[str] = "eval"
    epoch: Count
    step: Count
    rows: Count
    loss: Real
    bleu: Score
    bleu_rows: Count
    signature: str
    seconds: Seconds
    against: Name = LABELS
    measures: Measures = field(default_factory=dict)
    best_by: Name = "bleu"


@dataclass(frozen=True)
class Sample(Event):
    """One prediction of an evaluation next to its reference."""

    kind: ClassVar[str] = "sample"
    epoch: Count
    step: Count
    row: Count
    prompt: str
    reference: str
    prediction: str


@dataclass(frozen=True)
class Checkpoint(Event):
    """A checkpoint was published."""

    kind: ClassVar[str] = "checkpoint"
    epoch: Count
    step: Count
    path: str
    size: Count
    seconds: Seconds
    pruned: list[str]


@dataclass(frozen=True)
class Rehearsed(Event):
    """Results of a rehearsal, in bytes and seconds; three values are expected, minimum and maximum."""

    kind: ClassVar[str] = "rehearsed"
    micro_batch_tokens: Count  # the largest budget, up to the requested one, that fits the limit
    micro_batch_tokens_asked: Count
    memory_limit: Count  # of all ranks together
    peak_memory: list[Count]  # of each rank, for every budget that was tried
    peak_memory_found: Count  # of all ranks, with the budget found
    gpu_memory: list[Count]  # of each rank; 0 if it has no GPU
    steps_timed: Count
    seconds_step: list[Seconds]  # for rows of mean length
    seconds_evaluation: list[Seconds]
    seconds_save: Seconds
    checkpoint_bytes: Count


@dataclass(frozen=True)
class Host(Event):
    """Memory of a machine and of the run's processes on it, in bytes; CPU and disk.

    `ranks` are the numbers of these processes, without which they are 0, 1, …; `machine` is 0 for that of rank 0, and
    `node` its name if there are several.
    """

    kind: ClassVar[str] = "host"
    memory_total: Count
    memory_available: Count
    rank_memory: list[Count]
    cpu_percent: Rate
    disk_available: Count
    ranks: list[Count] = field(default_factory=list)
    machine: Count = 0
    node: Name = ""

    @property
    def memory_of_ranks(self) -> list[tuple[int, int]]:
        """The number of each process and its memory."""
        return list(zip(self.ranks or range(len(self.rank_memory)), self.rank_memory, strict=False))


@dataclass(frozen=True)
class Gpu(Event):
    """One GPU's readings as text; a value that the driver cannot report is `N/A: reason`.

    `index` is the driver's number for it, `place` that of CUDA, which counts the visible ones in the order asked for;
    `machine` and `node` are as in `Host`.
    """

    kind: ClassVar[str] = "gpu"
    index: Count
    name: str
    readings: dict[str, str]
    place: Count = 0
    machine: Count = 0
    node: Name = ""

    @property
    def lost(self) -> bool:
        """Whether the driver cannot reach it any more: it reports nothing, and says so."""
        texts = self.readings.values()
        return any("lost" in text for text in texts) and all(text.startswith("N/A") for text in texts)


@dataclass(frozen=True)
class Heartbeat(Event):
    """A rank is alive: its phase, and a progress count that stands still if the rank hangs."""

    kind: ClassVar[str] = "heartbeat"
    phase: str
    progress: Count = 0
    waiting: bool = False  # for other ranks: a count that stands still is then not this rank's fault
    pid: Count = 0


@dataclass(frozen=True)
class RankFailed(Event):
    """A rank ended with an error of its own; `waiting` if it stopped while waiting for other ranks."""

    kind: ClassVar[str] = "rank_failed"
    reason: str  # failed, out_of_memory, out_of_gpu_memory, gpu_failed; between ranks also stopped
    phase: str
    step: Count
    why: str
    traceback: str
    waiting: bool
    gpu: dict[str, str] = field(default_factory=dict)  # the rank's GPU: see `device_errors.gpu_of`
    rank: Count = 0
    node: Name = ""  # its machine, if there are several


@dataclass(frozen=True)
class Notice(Event):
    """Something worth knowing."""

    kind: ClassVar[str] = "notice"
    message: Message


@dataclass(frozen=True)
class Warning(Event):
    """Something that needs attention, and did not end the run."""

    kind: ClassVar[str] = "warning"
    message: Message


@dataclass(frozen=True)
class RunEnded(Event):
    """The last event of an attempt: why it ended, in words, with the exit code and the evidence."""

    kind: ClassVar[str] = "run_ended"
    # finished, stopped, paused, orphaned, terminated, refused, busy, diverged, failed, killed, out_of_memory,
    # out_of_gpu_memory, gpu_failed, hung, machine_restarted, machine_lost, link_lost
    reason: str
    exit_code: ExitCode
    message: Message
    evidence: dict[str, str] = field(default_factory=dict)
    apply: dict[str, Any] = field(default_factory=dict)  # {setting: value} that fixes the cause on resume


@dataclass(frozen=True)
class Unknown(Event):
    """An event of a kind or shape unknown to this version; its kind is its `name`."""

    name: str
    fields: dict[str, Any]


@dataclass(frozen=True)
class Envelope:
    """When and where an event was written: order by (attempt, src, seq); `mono` is the writer's monotonic seconds."""

    at: Name
    mono: Seconds
    attempt: Attempt
    src: Name
    seq: Count


_OUTSIDE = ("v", *(f.name for f in dataclasses.fields(Envelope)))


@dataclass(frozen=True)
class Record:
    """One line of the stream."""

    envelope: Envelope
    event: Event


def encode(record: Record) -> bytes:
    """The line of `record`, newline included, at most 64 KiB: the longest texts are cut first."""
    envelope, fields = {"v": SCHEMA, **dataclasses.asdict(record.envelope)}, event_to_json(record.event)
    line = _dump({**envelope, **fields})
    limit = LONGEST_TEXT
    while len(line) > MAX_LINE_BYTES:
        kept = {name[:MOST_FIELDS]: _shorten(value, limit) for name, value in list(fields.items())[:MOST_FIELDS]}
        line = _dump({**envelope, **kept})
        limit //= 4
    return line


def event_to_json(event: Event) -> dict[str, Any]:
    """The fields of an event and its `kind`, as plain values; NaN and infinities are left unchanged."""
    if isinstance(event, Unknown):
        return {"kind": event.name, **event.fields}
    return {"kind": event.kind, **as_json(event)}


def _dump(body: Mapping[str, Any]) -> bytes:
    return json.dumps(without_non_finite(body), allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"


def without_non_finite(value: Any) -> Any:
    """Plain values with NaN and infinities as the texts that represent them in JSON."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(key): without_non_finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_non_finite(item) for item in value]
    return value


def _shorten(value: Any, limit: int) -> Any:
    if isinstance(value, str) and len(value) > limit:
        return value[:limit] + "…"
    if isinstance(value, Mapping):
        return {key[:limit]: _shorten(item, limit) for key, item in list(value.items())[: limit * 4]}
    if isinstance(value, list | tuple):
        return [_shorten(item, limit) for item in value[: limit * 4]]
    return value


def decode(line: bytes) -> Record | None:
    """The record of one line, or None if it is not one; never raises because of content."""
    try:
        body = json.loads(line)
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        return None
    if not isinstance(body, dict) or not _shallow(body, DEEPEST):
        return None
    kind = body.pop("kind", None)
    try:
        envelope = read_as(Envelope, body)
    except (TypeError, ValueError, OverflowError):
        return None
    if not isinstance(kind, str):
        return None
    for name in _OUTSIDE:
        body.pop(name, None)
    return Record(envelope, event_from_json(kind, body))


def _shallow(value: Any, levels: int) -> bool:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_shallow(item, levels - 1) for item in items)


def event_from_json(kind: str, body: dict[str, Any]) -> Event:
    """The event of a kind with these fields; Unknown if this version does not know such an event."""
    event_type = EVENT_TYPES.get(kind)
    if event_type is None:
        return Unknown(kind, body)
    try:
        return read_as(event_type, body)
    except (TypeError, ValueError, OverflowError):
        return Unknown(kind, body)
