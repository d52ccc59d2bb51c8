"""Why an attempt ended without reporting it: judged from how its ranks ended, what they reported, and the readings."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from engine.contract import certificate, events
from engine.contract.files import read_end
from engine.contract.machine.driver_log import Xid, in_words
from engine.contract.messages import Message
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir
from engine.contract.texts import filled
from sft_tui import text
from sft_tui.run_state import RunState
from sft_tui.supervise.ranks import Exit
from sft_tui.supervise.stall import Overdue

CAUSED_BY_LOSS = ("failed", "killed", "hung", "gpu_failed", "out_of_gpu_memory")  # ends that a lost GPU leads to
CRASHES = ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSYS")
LITTLE_MEMORY = 0.05  # share of the machine's memory; a kill with less free points to a lack of memory
TAIL_BYTES = 2000


@dataclass
class Facts:
    """What a supervisor has observed of an attempt."""

    state: RunState = field(default_factory=RunState)
    exits: Sequence[Exit] = ()
    failures: dict[int, events.RankFailed] = field(default_factory=dict)  # in order of arrival
    readings: Sequence[events.Host] = ()  # of the last seconds
    oom_kills: int = 0  # by the kernel, since the attempt began
    xids: Sequence[Xid] = ()  # what NVIDIA's driver reported since then
    unstartable: str = ""  # why a rank could not be started
    stop_asked: bool = False
    ended_now: bool = False  # it was asked to end without saving
    overdue: Overdue | None = None
    suspended: bool = False
    stacks: dict[str, str] = field(default_factory=dict)


def judge(run_dir: RunDir, record: RunRecord, facts: Facts) -> events.RunEnded:
    """The end of the attempt: that of the rank that caused it, not of those that failed as a consequence."""
    end = _ended_by_supervisor(record, facts) or _of_a_rank(run_dir, record, facts)
    step = facts.state.step.step if facts.state.step else 0
    return _by_lost_gpu(record, facts, end, step) if end else _unlogged(record, step)


def _by_lost_gpu(record: RunRecord, facts: Facts, end: events.RunEnded, step: int) -> events.RunEnded:
    """The end, if a GPU of the run was lost meanwhile: that is then its cause, however the ranks noticed."""
    lost = [gpu for gpu in facts.state.gpus if gpu.lost and gpu.place < record.processes and _named(gpu)]
    if end.reason not in CAUSED_BY_LOSS:
        return end
    if facts.xids:
        end = replace(end, evidence={**end.evidence, "driver": in_words(facts.xids)})
    if not lost:
        return _by_driver(record, facts, end, step)
    rank, gpu = lost[0].place, f"{lost[0].index} ({lost[0].name})"
    return certificate.gpu_lost(record, rank, gpu, end, facts.state.phase.name, step)


def _by_driver(record: RunRecord, facts: Facts, end: events.RunEnded, step: int) -> events.RunEnded:
    """The end, if the driver reported a fault of a GPU itself and no rank says how it failed.

    A rank names an error of its GPU itself; another error is its own, whichever GPU of the machine has failed.
    """
    blamed = next((xid for xid in facts.xids if xid.is_hardware), None)
    raised = any(not failure.waiting for failure in facts.failures.values())
    if blamed is None or raised or end.reason == "gpu_failed":
        return end
    phase, gpu = facts.state.phase.name, {"gpu": blamed.place}
    failure = events.RankFailed("gpu_failed", phase, step, str(blamed), "", waiting=False, gpu=gpu)
    evidence = {**end.evidence, "otherwise": end.message.what()}
    return certificate.gpu_failed(record, int(str(end.message.args.get("rank", 0))), failure, evidence)


def _named(gpu: events.Gpu) -> bool:
    """Whether the driver has reported a GPU before: one that was lost from the start is not used."""
    return not gpu.name.startswith("N/A")


def _numbered(failure: events.RankFailed, state: RunState) -> events.RankFailed:
    """A failure with the driver's number of its GPU, which the screen shows, in place of CUDA's."""
    index = {str(gpu.place): str(gpu.index) for gpu in state.gpus}.get(failure.gpu.get("gpu", ""))
    return replace(failure, gpu={**failure.gpu, "gpu": index}) if index else failure


def _ended_by_supervisor(record: RunRecord, facts: Facts) -> events.RunEnded | None:
    """The end if the supervisor itself ended the ranks, or could not start them."""
    if facts.unstartable:
        return certificate.unstartable(record, facts.unstartable)
    if facts.ended_now:
        return certificate.terminated(record, facts.state.phase.name)
    if facts.overdue is not None:
        late = facts.overdue
        why = "suspended" if facts.suspended else "silent" if late.silent else "still"
        return certificate.hung(record, late.rank, late.phase, late.seconds, why, dict(facts.stacks))
    return None


def _of_a_rank(run_dir: RunDir, record: RunRecord, facts: Facts) -> events.RunEnded | None:
    """The end that a rank caused; None if all exited in order, only without reporting it."""
    log, by_itself = str(run_dir.trainer_output), [one for one in facts.exits if not one.asked]
    for one in by_itself:
        if one.signal_name:
            return _by_signal(record, one, facts, log)
    for rank, failure in facts.failures.items():
        if not failure.waiting:
            return certificate.failed(record, rank, _numbered(failure, facts.state), log)
    silent = [one for one in by_itself if one.rank not in facts.failures]
    for one in sorted(silent, key=lambda one: one.code != 0):  # a rank that left early broke the others' connection
        if one.code or len(silent) < len(facts.exits) or not (facts.stop_asked or _finished(record)):
            evidence = {"rank": str(one.rank), "output": _tail(run_dir.trainer_output)}
            return certificate.vanished(record, one.rank, one.code, log, evidence)
    return next((certificate.failed(record, rank, failure, log) for rank, failure in facts.failures.items()), None)


def _by_signal(record: RunRecord, one: Exit, facts: Facts, log: str) -> events.RunEnded:
    phase, step = facts.state.phase.name, facts.state.step.step if facts.state.step else 0
    if facts.stop_asked and one.signal_name in ("SIGTERM", "SIGINT"):
        # The whole group was signalled while this rank was still loading its libraries; it had nothing to save yet.
        return events.RunEnded("stopped", 0, certificate.stopped_early(record, phase))
    evidence = {"rank": str(one.rank), "signal": one.signal_name, **_memory(facts.readings)}
    if one.signal_name == "SIGKILL" and (why := _memory_ran_out(facts)):
        return certificate.out_of_memory(record, one.rank, phase, step, why, evidence)
    if one.signal_name in CRASHES:
        return certificate.crashed(record, one.rank, one.signal_name, phase, log, evidence)
    return certificate.killed(record, one.rank, one.signal_name, phase, step, evidence)


def _memory_ran_out(facts: Facts) -> str:
    """Why a kill was almost certainly the kernel's, for lack of memory; empty without evidence of that."""
    if facts.oom_kills:
        said = "SIGKILL; the kernel counts {kills} kill(s) for lack of memory since the start"
        return filled(said, {"kills": facts.oom_kills})
    low = [reading for reading in facts.readings if reading.memory_available < LITTLE_MEMORY * reading.memory_total]
    if low:
        free, total = low[-1].memory_available, low[-1].memory_total
        return f"SIGKILL, with {text.size(free)} of {text.size(total)} available in the seconds before"
    return ""


def _memory(readings: Sequence[events.Host]) -> dict[str, str]:
    """The readings of the last seconds, as evidence."""
    if not readings:
        return {}
    ranks = " | ".join(", ".join(map(text.size, reading.rank_memory)) for reading in readings)
    return {
        "memory_of_ranks": ranks,
        "memory_available": " | ".join(text.size(reading.memory_available) for reading in readings),
        "memory_total": text.size(readings[-1].memory_total),
    }


def _finished(record: RunRecord) -> bool:
    return record.output.owner().finished


def _unlogged(record: RunRecord, step: int) -> events.RunEnded:
    message = Message.of("ended_unlogged", step=step, resume_option=record.resume_option)
    return events.RunEnded("finished" if _finished(record) else "stopped", 0, message)


def _tail(path: Path) -> str:
    """The last lines of a file, on one line."""
    try:
        lines = read_end(path, TAIL_BYTES).decode("utf-8", "replace").strip().splitlines()
    except OSError:
        return "-"
    return " | ".join(lines[-3:]) or "-"
