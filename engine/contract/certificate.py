"""How an attempt ended, if not as planned: words, evidence and the one fix, as pure functions."""

from collections.abc import Mapping, Sequence
from typing import Any

from engine.contract.events import RankFailed, RunEnded
from engine.contract.messages import Message, Value
from engine.contract.record import RunRecord
from engine.contract.texts import Phrase

FIXABLE = ("micro_batch_tokens", "learn_rate")  # settings that an ending may propose to lower
LOWEST_BUDGET = 32  # tokens of a micro-batch below which halving no longer saves memory
LOADING = ("loading", "tokenizing", "hashing")  # phases that compute no micro-batch


def smaller_budget(record: RunRecord, phase: str) -> dict[str, Any]:
    """The settings that need less memory in a phase, with the same effective batch; {} if none do."""
    if phase in LOADING:
        return {}
    budget = int(record.config.get("micro_batch_tokens", 0)) // 2
    return {"micro_batch_tokens": budget} if budget >= LOWEST_BUDGET else {}


def failed(record: RunRecord, rank: int, failure: RankFailed, log: str) -> RunEnded:
    """A rank raised an error; `log` holds the full traceback."""
    evidence = {"rank": str(rank), "phase": failure.phase, "traceback": failure.traceback}
    if failure.reason == "out_of_memory":
        return out_of_memory(record, rank, failure.phase, failure.step, failure.why, evidence)
    if failure.reason == "out_of_gpu_memory":
        return out_of_gpu_memory(record, rank, failure, evidence)
    if failure.reason == "gpu_failed":
        return gpu_failed(record, rank, failure, evidence)
    message = Message.of(
        "ended_failed", rank=rank, phase=failure.phase, why=failure.why, log=log, resume_option=record.resume_option
    )
    return RunEnded("failed", 1, message, evidence)


def stopped_early(record: RunRecord, phase: str, reason: str = "stopped", *, begun: bool = False) -> Message:
    """Ended, as asked or as an orphan, with no step to save; a run that resumed or has `begun` has its checkpoint."""
    orphaned, trained = reason == "orphaned", record.job == "train"
    steps = record.output.checkpoint_steps() if record.resume or (begun and trained) else []
    if steps:
        resuming = "ended_orphaned_resuming" if orphaned else "ended_stopped_resuming"
        return Message.of(resuming, phase=phase, step=steps[0], resume_option=record.resume_option)
    if trained and record.fresh_option:
        again = "ended_orphaned_again" if orphaned else "ended_stopped_again"
        return Message.of(again, phase=phase, fresh_option=record.fresh_option)
    early = "ended_orphaned_early" if orphaned else "ended_stopped_early"
    return Message.of(early, phase=phase)


def out_of_memory(
    record: RunRecord, rank: int, phase: str, step: int, why: str, evidence: Mapping[str, str]
) -> RunEnded:
    """Memory ran out, as reported by the rank or by the kernel."""
    apply = smaller_budget(record, phase)
    args: dict[str, str | int] = {"rank": rank, "phase": phase, "step": step, "why": why}
    if not apply:
        least = "ended_memory_loading" if phase in LOADING else "ended_memory_least"
        message = Message.of(least, **args, resume_option=record.resume_option)
        return RunEnded("out_of_memory", 1, message, dict(evidence))
    budget = apply["micro_batch_tokens"]
    message = Message.of("ended_memory", **args, budget=budget, resume_option=record.resume_option)
    return RunEnded("out_of_memory", 1, message, dict(evidence), apply)


def out_of_gpu_memory(record: RunRecord, rank: int, failure: RankFailed, evidence: Mapping[str, str]) -> RunEnded:
    """The memory of a rank's GPU ran out."""
    sizes = {name: failure.gpu.get(name, "") for name in ("asked", "free", "total")}
    apply = smaller_budget(record, failure.phase)
    why: Value = failure.why
    if all(size.isdecimal() for size in sizes.values()):
        why = Phrase.of("why.gpu_asked", **{name: _gigabytes(size) for name, size in sizes.items()})
    args: dict[str, Value] = {**_of_gpu(rank, failure), "why": why, "resume_option": record.resume_option}
    on_gpu = "ended_gpu_memory_loading" if failure.phase in LOADING else "ended_gpu_memory_least"
    on_gpu = "ended_gpu_memory" if apply else on_gpu
    message = Message.of(on_gpu, **args, **({"budget": apply["micro_batch_tokens"]} if apply else {}))
    return RunEnded("out_of_gpu_memory", 1, message, {**evidence, **failure.gpu}, apply)


def gpu_failed(record: RunRecord, rank: int, failure: RankFailed, evidence: Mapping[str, str]) -> RunEnded:
    """A rank's GPU failed, or is lost: its work ended with an error that is not the program's."""
    named = _of_gpu(rank, failure)
    args: dict[str, Value] = {**named, "why": failure.why, "resume_option": record.resume_option}
    end = RunEnded("gpu_failed", 1, Message.of("ended_gpu_failed", **args), {**evidence, **failure.gpu})
    if "lost" in failure.gpu:
        return gpu_lost(record, rank, str(named["gpu"]), end, failure.phase, failure.step)
    return end


def gpu_lost(record: RunRecord, rank: int, gpu: str, end: RunEnded, phase: str, step: int) -> RunEnded:
    """The driver lost a rank's GPU; `end` is how the attempt would have been judged without knowing that."""
    args: dict[str, Value] = {"rank": rank, "gpu": gpu, "phase": phase, "step": step}
    message = Message.of("ended_gpu_lost", **args, resume_option=record.resume_option)
    return RunEnded("gpu_failed", 1, message, {**end.evidence, "otherwise": end.message.what(), "gpu": gpu})


def _of_gpu(rank: int, failure: RankFailed) -> dict[str, Value]:
    number, name = failure.gpu.get("gpu", "?"), failure.gpu.get("name", "")
    return {
        "rank": rank,
        "gpu": f"{number} ({name})" if name else number,
        "phase": failure.phase,
        "step": failure.step,
    }


def _gigabytes(size: str) -> str:
    return f"{int(size) / 1e9:.2f} GB"


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


def silent(
    record: RunRecord,
    rank: int,
    nodes: tuple[str, str],
    since: str,
    seconds: float,
    phase: str,
    step: int,
    evidence: dict[str, str],
) -> RunEnded:
    """A rank on another machine gave no sign of life; `nodes` are its machine and the one that noticed it."""
    args: dict[str, str | int] = {"rank": rank, "node": nodes[0], "main": nodes[1], "since": since}
    args |= {"seconds": round(seconds), "phase": phase, "step": step}
    message = Message.of("ended_silent_machine", **args, resume_option=record.resume_option)
    return RunEnded("machine_lost", 1, message, evidence)


def stood_still(
    record: RunRecord,
    nodes: Sequence[str],
    pairs: Sequence[Sequence[tuple[int, str]]],
    since: str,
    seconds: float,
    expected: float,
    phase: str,
    step: int,
) -> RunEnded:
    """No rank got through an exchange; `pairs`: ranks, with their machines, that do not answer each other.

    `expected`: seconds that the largest exchange takes at the rate measured at launch; 0 if unknown.
    """
    where = Phrase.of("why.some_connection", nodes=", ".join(dict.fromkeys(nodes)))
    if pairs:
        named = tuple(
            Phrase.of("why.no_answer_between", rank=one[0], node=one[1], other=other[0], other_node=other[1])
            for one, other in pairs
        )
        where = Phrase.of("why.known_connections", pairs=named)
    args: dict[str, Value] = {"ranks": len(nodes), "since": since, "seconds": round(seconds), "where": where}
    known = Phrase.of("why.largest_exchange", seconds=f"{expected:.2g}") if expected else ""
    args |= {"expected": known, "phase": phase, "step": step}
    message = Message.of("ended_stood_still", **args, resume_option=record.resume_option)
    return RunEnded("link_lost", 1, message, {})


def terminated(record: RunRecord, phase: str) -> RunEnded:
    """The run was asked to end at once."""
    return RunEnded("terminated", 1, Message.of("ended_terminated", phase=phase, resume_option=record.resume_option))


def lost(record: RunRecord, phase: str, step: int, *, restarted: bool, evidence: dict[str, str]) -> RunEnded:
    """Nothing was left to report how the attempt ended: the machine restarted, or all its processes were killed."""
    code = "ended_restarted" if restarted else "ended_lost"
    message = Message.of(code, phase=phase, step=step, resume_option=record.resume_option)
    return RunEnded("machine_restarted" if restarted else "killed", 1, message, evidence)
