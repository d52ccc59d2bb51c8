"""What is known of a run: a pure function from its events to one frozen state, shared by every view."""

from dataclasses import dataclass, field, replace

from engine.contract import events
from engine.contract.events import Event, Record


@dataclass(frozen=True)
class RunState:
    """A run as its events tell it; of the newest attempt where attempts differ."""

    started: events.RunStarted | None = None
    plan: events.Plan | None = None
    phase: events.Phase = field(default_factory=lambda: events.Phase("starting"))
    step: events.Step | None = None
    evaluation: events.Eval | None = None
    best: events.Eval | None = None
    checkpoint: events.Checkpoint | None = None
    ended: events.RunEnded | None = None
    attempt: int = 0
    # Monotonic seconds and steps done when this attempt's training began, and at its newest step.
    training_since: float = 0.0
    training_from: int = 0
    training_at: float = 0.0

    @property
    def epochs(self) -> int:
        """Epochs of the run; 0 while they are not known."""
        return self.plan.steps_total // self.plan.steps_per_epoch if self.plan else 0

    @property
    def tokens_per_second(self) -> float:
        """Prompt and label tokens a second in the newest step; 0 before the first."""
        if self.step is None:
            return 0.0
        seconds = self.step.seconds_data + self.step.seconds_forward_backward + self.step.seconds_optimizer
        return self.step.tokens / seconds if seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Seconds to the last step at the pace of this attempt, evaluation and saving included; None if unknown."""
        if self.step is None or self.plan is None:
            return None
        done = self.step.step - self.training_from
        if done <= 0:
            return None
        return (self.training_at - self.training_since) / done * (self.plan.steps_total - self.step.step)


def reduce(state: RunState, record: Record) -> RunState:
    """The state after one more event."""
    if record.envelope.attempt > state.attempt:
        state = RunState(best=state.best, evaluation=state.evaluation, attempt=record.envelope.attempt)
    return _applied(state, record.event, record.envelope.mono)


def _applied(state: RunState, event: Event, mono: float) -> RunState:
    match event:
        case events.RunStarted():
            return replace(state, started=event)
        case events.Plan():
            return replace(state, plan=event, training_from=event.step, training_since=mono)
        case events.Phase():
            return replace(state, phase=event)
        case events.Step():
            return replace(state, step=event, training_at=mono)
        case events.Eval():
            better = state.best is None or (event.bleu, -event.loss) > (state.best.bleu, -state.best.loss)
            return replace(state, evaluation=event, best=event if better else state.best, training_at=mono)
        case events.Checkpoint():
            return replace(state, checkpoint=event)
        case events.RunEnded():
            return replace(state, ended=event)
    return state
