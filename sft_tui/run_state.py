"""The state of a run: a pure function from its events to one frozen state, shared by every view."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from engine.contract import events
from engine.contract.bounds import Attempt, Count, Name, Seconds
from engine.contract.events import Event, Record
from engine.contract.messages import Message
from engine.contract.scores import merit

MOST_GPUS, MOST_MACHINES, MOST_SAMPLES = 256, 64, 64
MOST_NAMED = 8  # ranks in a piece of evidence
LONGEST_NODE = 100  # characters of a machine's name
OTHER_RANK = re.compile(r"rank([1-9]\d{0,6})")  # as a stream names its writer
EVALUATING = ("evaluating", "generating", "publishing")


@dataclass(frozen=True)
class Pace:
    """Seconds that this attempt spent on steps, saves and evaluations, and their counts, to estimate the time left."""

    training: Seconds = 0.0
    steps: Count = 0
    saving: Seconds = 0.0
    saves: Count = 0
    evaluating: Seconds = 0.0
    evaluations: Count = 0
    since: Seconds = 0.0  # monotonic time up to which all time is accounted for

    def spend(self, phase: str, now: float) -> "Pace":
        """A copy with the time since the last call assigned to `phase`."""
        name = "evaluating" if phase in EVALUATING else phase
        if name not in ("training", "saving", "evaluating"):
            return replace(self, since=now)
        return replace(self, **{name: getattr(self, name) + max(0.0, now - self.since), "since": now})


@dataclass(frozen=True)
class ApartEnd:
    """An end of an attempt that a rank other than 0 wrote: on which machine, and the reason."""

    rank: Count
    node: Name
    reason: Name


@dataclass(frozen=True)
class RunState:
    """A run according to its events; if attempts differ, according to the newest.

    Plan and progress are kept until an attempt has its own: an attempt that was stopped while loading, or found nothing
    left to do, does not change them.
    """

    started: events.RunStarted | None = None
    plan: events.Plan | None = None
    phase: events.Phase = field(default_factory=lambda: events.Phase("starting"))
    step: events.Step | None = None
    evaluation: events.Eval | None = None
    evaluation_before: events.Eval | None = None  # the newest of an earlier step
    best: events.Eval | None = None
    checkpoint: events.Checkpoint | None = None
    host: events.Host | None = None  # that of rank 0
    other_hosts: tuple[events.Host, ...] = ()  # the newest reading of each other machine
    gpus: tuple[events.Gpu, ...] = ()  # the newest reading of each, of all machines
    unseen: Message | None = None  # GPUs that its torch cannot use
    awaited: Message | None = None  # processes that have not come to where all are to meet
    samples: tuple[events.Sample, ...] = ()  # of the newest evaluation and of the previous one
    samples_before: tuple[events.Sample, ...] = ()
    baseline: events.Eval | None = None  # of the model that the run started from, with its samples
    baseline_samples: tuple[events.Sample, ...] = ()
    ended: events.RunEnded | None = None
    ended_by: Name = ""  # who wrote that, as the stream names it
    ended_apart: tuple[ApartEnd, ...] = ()  # what other ranks wrote of it
    ended_before: events.RunEnded | None = None  # the previous attempt
    attempt: Attempt = 0
    planned: Attempt = 0  # the attempt that made the plan
    began_at: Name = ""  # wall clock of the run's first event, and of its newest
    last_at: Name = ""
    pace: Pace = field(default_factory=Pace)
    seconds: Seconds = 0.0  # that all attempts took so far
    clock: Seconds = 0.0  # monotonic time of this attempt's newest event

    @property
    def under_way(self) -> bool:
        """Whether the newest attempt has loaded its model and data and has begun to train."""
        return self.plan is not None and self.planned == self.attempt

    @property
    def epochs(self) -> int:
        """Epochs of the run; 0 while unknown."""
        return self.plan.steps_total // self.plan.steps_per_epoch if self.plan else 0

    @property
    def tokens_per_second(self) -> float:
        """Prompt and label tokens per second in the newest step; 0 before the first."""
        return self.step.tokens_per_second if self.step else 0.0

    @property
    def hosts(self) -> tuple[events.Host, ...]:
        """The newest reading of each machine, rank 0's first."""
        return (*([self.host] if self.host else []), *self.other_hosts)

    @property
    def memory_of_ranks(self) -> list[int]:
        """The memory of the run's processes on all machines, in the order of their ranks, in bytes."""
        return [memory for _, memory in sorted(pair for host in self.hosts for pair in host.memory_of_ranks)]

    @property
    def seconds_left(self) -> float | None:
        """Seconds to the end at the pace of this attempt, including the remaining saves and evaluations.

        None before the first step. If no evaluation was timed yet, evaluations count as 0: see `evaluation_unknown`.
        """
        if self.step is None or self.plan is None or not self.pace.steps:
            return None
        pace, step, plan = self.pace, self.step.step, self.plan
        steps = plan.steps_total - step
        every = int(self.started.config.get("save_steps", 0)) if self.started else 0
        saves = (plan.steps_total // every - step // every) if every > 0 else 0
        return (
            steps * pace.training / pace.steps
            + saves * (pace.saving / pace.saves if pace.saves else 0.0)
            + self._evaluations_left() * self._evaluation_seconds()
        )

    @property
    def evaluation_unknown(self) -> bool:
        """Whether evaluations are due but none was timed yet, so that `seconds_left` leaves them out."""
        return self._evaluations_left() > 0 and not self._evaluation_seconds()

    def _evaluations_left(self) -> int:
        if self.step is None or self.plan is None:
            return 0
        done = self.step.step // self.plan.steps_per_epoch
        current = self.evaluation is not None and self.evaluation.step == self.step.step
        at_edge = self.step.step % self.plan.steps_per_epoch == 0
        return self.epochs - done + (at_edge and not current)

    def _evaluation_seconds(self) -> float:
        if self.pace.evaluations:
            return self.pace.evaluating / self.pace.evaluations
        return self.evaluation.seconds if self.evaluation else 0.0


def reduce(state: RunState, record: Record) -> RunState:
    """The state after one more event."""
    envelope = record.envelope
    if envelope.attempt > state.attempt:
        state = RunState(
            started=state.started,
            plan=state.plan,
            planned=state.planned,
            step=state.step,
            best=state.best,
            evaluation=state.evaluation,
            evaluation_before=state.evaluation_before,
            checkpoint=state.checkpoint,
            samples=state.samples,
            samples_before=state.samples_before,
            baseline=state.baseline,
            baseline_samples=state.baseline_samples,
            ended_before=state.ended,
            attempt=envelope.attempt,
            began_at=state.began_at or envelope.at,
            seconds=state.seconds,
            clock=envelope.mono,
        )
    if isinstance(record.event, events.Phase | events.Step | events.Eval | events.Checkpoint):
        state = replace(state, pace=state.pace.spend(state.phase.name, envelope.mono))
    clock, event = max(state.clock, envelope.mono), record.event
    state = replace(state, last_at=envelope.at, seconds=state.seconds + clock - state.clock, clock=clock)
    if isinstance(event, events.RunEnded):
        event, by, others = one_end(state.ended, state.ended_by, state.ended_apart, event, envelope.src)
        state = replace(state, ended_by=by, ended_apart=others)
    return REDUCERS.get(type(event), _unchanged)(state, event)


def one_end(
    known: events.RunEnded | None, known_by: str, apart: tuple[ApartEnd, ...], new: events.RunEnded, new_by: str
) -> tuple[events.RunEnded, str, tuple[ApartEnd, ...]]:
    """Which of two ends of an attempt counts, who wrote it, and the ends that ranks other than 0 wrote so far.

    If the network between machines fails, both sides live and write an end each. That of rank 0's side counts, in
    whose stream everything else of the run is; it mentions the others, in whatever order they were read.
    """
    if other := OTHER_RANK.fullmatch(new_by):
        apart = (*apart, ApartEnd(int(other[1]), str(new.message.args.get("main", ""))[:LONGEST_NODE], new.reason))[
            :MOST_MACHINES
        ]
    end, by = (new, new_by) if known is None or not other else (known, known_by)
    if OTHER_RANK.fullmatch(by):
        return end, by, apart
    return replace(end, evidence={**end.evidence, **_mentions(end, apart)}), by, apart


def _mentions(end: events.RunEnded, apart: tuple[ApartEnd, ...]) -> dict[str, str]:
    """The evidence that names who wrote an end too, in the order of their ranks, of many only the first."""
    found: dict[str, list[str]] = {}
    for one in sorted(apart, key=lambda one: one.rank):
        both = end.reason == one.reason == "machine_lost"
        name = f"rank{one.rank} ({one.node})" if one.node else f"rank{one.rank}"
        found.setdefault("also_lost" if both else "also_ended", []).append(name)
    return {key: ", ".join([*names[:MOST_NAMED], *["…"] * (len(names) > MOST_NAMED)]) for key, names in found.items()}


def _unchanged(state: RunState, _event: Event) -> RunState:
    return state


def _started(state: RunState, event: events.RunStarted) -> RunState:
    return replace(state, started=event)


def _planned(state: RunState, event: events.Plan) -> RunState:
    """A run that starts over has no progress; a resumed run keeps its progress."""
    return replace(state, plan=event, planned=state.attempt, step=state.step if event.step else None)


def _phase(state: RunState, event: events.Phase) -> RunState:
    return replace(state, phase=event, awaited=state.awaited if event.name == "meeting" else None)


def _stepped(state: RunState, event: events.Step) -> RunState:
    return replace(state, step=event, pace=replace(state.pace, steps=state.pace.steps + 1))


def _evaluated(state: RunState, event: events.Eval) -> RunState:
    by, last = event.best_by, state.evaluation
    before = last if last and last.step < event.step else state.evaluation_before  # an evaluation may be repeated
    pace = replace(state.pace, evaluations=state.pace.evaluations + 1)
    state = replace(state, evaluation=event, evaluation_before=before, pace=pace)
    if not event.step and state.plan is not None:  # a test has no plan
        return replace(state, baseline=event)
    better = state.best is None or merit(event, by).beats(merit(state.best, by))
    return replace(state, best=event if better else state.best)


def _sampled(state: RunState, sample: events.Sample) -> RunState:
    if not sample.step and state.baseline is not None:
        others = [one for one in state.baseline_samples if one.row != sample.row]
        state = replace(state, baseline_samples=(*others, sample)[:MOST_SAMPLES])
    if state.samples and state.samples[0].step != sample.step:
        return replace(state, samples=(sample,), samples_before=state.samples)
    kept = [one for one in state.samples if one.row != sample.row]  # an evaluation may be repeated
    return replace(state, samples=(*kept, sample)[:MOST_SAMPLES])


def _saved(state: RunState, event: events.Checkpoint) -> RunState:
    return replace(state, checkpoint=event, pace=replace(state.pace, saves=state.pace.saves + 1))


def _host(state: RunState, event: events.Host) -> RunState:
    if not event.machine:
        return replace(state, host=event)
    others = [host for host in state.other_hosts if host.machine != event.machine]
    found = sorted([*others, event], key=lambda host: host.machine)
    return replace(state, other_hosts=tuple(found)[:MOST_MACHINES])


def _gpu(state: RunState, event: events.Gpu) -> RunState:
    which = (event.machine, event.index)
    before = {(gpu.machine, gpu.index): gpu for gpu in state.gpus}
    if event.lost and which in before:  # the driver no longer says what it was
        event = replace(event, name=before[which].name)
    found = {**before, which: event}
    return replace(state, gpus=tuple(found[key] for key in sorted(found))[:MOST_GPUS])


def _noticed(state: RunState, event: events.Notice) -> RunState:
    match event.message.code:
        case "gpu_unseen":
            return replace(state, unseen=event.message)
        case "ranks_awaited":
            return replace(state, awaited=event.message)
    return state


def _ended(state: RunState, event: events.RunEnded) -> RunState:
    """An attempt that found nothing to do reports that to its caller; the run keeps the end of its real attempt."""
    before = state.ended_before
    all_done = event.message.code == "resume_finished" and before is not None and before.reason == "finished"
    return replace(state, ended=before if all_done else event)


# Every kind of event is here.
REDUCERS: dict[type[Event], Callable[[RunState, Any], RunState]] = {
    events.RunStarted: _started,
    events.Plan: _planned,
    events.Phase: _phase,
    events.Step: _stepped,
    events.Eval: _evaluated,
    events.Sample: _sampled,
    events.Checkpoint: _saved,
    events.Rehearsed: _unchanged,
    events.Host: _host,
    events.Gpu: _gpu,
    events.Heartbeat: _unchanged,
    events.RankFailed: _unchanged,
    events.Notice: _noticed,
    events.Warning: _unchanged,
    events.RunEnded: _ended,
}
