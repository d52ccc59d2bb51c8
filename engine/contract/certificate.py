"""How an attempt ended, if not as planned: words, evidence and the one fix, as pure functions."""

from collections.abc import Mapping
from typing import Any

from engine.contract.events import RankFailed, RunEnded
from engine.contract.messages import Message
from engine.contract.record import RunRecord

FIXABLE = ("micro_batch_tokens", "learn_rate")  # settings that an ending may propose to lower
LOWEST_BUDGET = 32  # tokens of a micro-batch below which halving no longer saves memory


def smaller_budget(record: RunRecord) -> dict[str, Any]:
    """The settings that need less memory and keep the effective batch; {} if nothing is left to halve."""
    budget = int(record.config.get("micro_batch_tokens", 0)) // 2
    return {"micro_batch_tokens": budget} if budget >= LOWEST_BUDGET else {}


def failed(record: RunRecord, rank: int, failure: RankFailed, log: str) -> RunEnded:
    """A rank raised an error; `log` holds the full traceback."""
    evidence = {"rank": str(rank), "phase": failure.phase, "traceback": failure.traceback}
    if failure.reason == "out_of_memory":
        return out_of_memory(record, rank, failure.phase, failure.step, failure.why, evidence)
    message = Message.of(
        "ended_failed", rank=rank, phase=failure.phase, why=failure.why, log=log, resume_option=record.resume_option
    )
    return RunEnded("failed", 1, message, evidence)


def stopped_early(record: RunRecord, phase: str) -> Message:
    """Stopped as requested before there was a step to save; a run being resumed still has its checkpoint."""
    steps = record.output.checkpoint_steps() if record.resume else []
    if not steps:
        return Message.of("ended_stopped_early", phase=phase)
    return Message.of("ended_stopped_resuming", phase=phase, step=steps[0], resume_option=record.resume_option)


def out_of_memory(
    record: RunRecord, rank: int, phase: str, step: int, why: str, evidence: Mapping[str, str]
) -> RunEnded:
    """Memory ran out, as reported by the rank or by the kernel."""
    apply = smaller_budget(record)
    args: dict[str, str | int] = {"rank": rank, "phase": phase, "step": step, "why": why}
    if not apply:
        message = Message.of("ended_memory_least", **args, resume_option=record.resume_option)
        return RunEnded("out_of_memory", 1, message, dict(evidence))
    budget = apply["micro_batch_tokens"]
    message = Message.of("ended_memory", **args, budget=budget, resume_option=record.resume_option)
    return RunEnded("out_of_memory", 1, message, dict(evidence), apply)


def killed(record: RunRecord, rank: int, signal_name: str, phase: str, step: int, evidence: dict[str, str]) -> RunEnded:
    """A rank was killed by a signal that the supervisor did not send."""
    message = Message.of(
        "ended_killed", rank=rank, signal=signal_name, phase=phase, step=step, resume_option=record.resume_option
    )
    return RunEnded("killed", 1, message, evidence)


def crashed(record: RunRecord, rank: int, signal_name: str, phase: str, log: str, evidence: dict[str, str]) -> RunEnded:
    """Native code of a rank crashed."""
    args: dict[str, str | int] = {"rank": rank, "signal": signal_name, "phase": phase, "log": log}
    return RunEnded("failed", 1, Message.of("ended_crashed", **args, resume_option=record.resume_option), evidence)


def unstartable(record: RunRecord, why: str) -> RunEnded:
    """A rank's process could not be started."""
    return RunEnded("failed", 1, Message.of("ended_unstartable", why=why, resume_option=record.resume_option))


def vanished(record: RunRecord, rank: int, code: int, log: str, evidence: dict[str, str]) -> RunEnded:
    """A rank exited without reporting a reason; it exited early if `code` is 0."""
    args: dict[str, str | int] = {"rank": rank, "code": code, "tail": evidence.get("output", "-")}
    message = Message.of("ended_vanished", **args, log=log, resume_option=record.resume_option)
    return RunEnded("failed", 1, message, evidence)


def hung(record: RunRecord, rank: int, phase: str, seconds: float, why: str, evidence: dict[str, str]) -> RunEnded:
    """A rank made no progress for `seconds`; `why` says whether it was suspended or hung."""
    args: dict[str, str | int] = {"rank": rank, "phase": phase, "seconds": round(seconds)}
    message = Message.of(f"ended_{why}", **args, resume_option=record.resume_option)
    return RunEnded("hung", 1, message, evidence)


def terminated(record: RunRecord, phase: str) -> RunEnded:
    """The run was asked to end at once."""
    return RunEnded("terminated", 1, Message.of("ended_terminated", phase=phase, resume_option=record.resume_option))


def lost(record: RunRecord, phase: str, step: int, *, restarted: bool, evidence: dict[str, str]) -> RunEnded:
    """Nothing was left to report how the attempt ended: the machine restarted, or all its processes were killed."""
    code = "ended_restarted" if restarted else "ended_lost"
    message = Message.of(code, phase=phase, step=step, resume_option=record.resume_option)
    return RunEnded("machine_restarted" if restarted else "killed", 1, message, evidence)
