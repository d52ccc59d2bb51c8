"""Checks of the memory that a run needs at its peak, on the machine and on its GPUs; and what fixes them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

from engine.contract.config import RunConfig
from engine.contract.machine.host import HostReader
from engine.contract.memory import MemoryFacts, MemoryPrediction
from engine.contract.texts import Argument, Phrase
from sft_tui.preflight.declaration import Actions, Advice, CheckedRun, Group, Seen
from sft_tui.preflight.finding import Finding, sized
from sft_tui.preflight.request import CheckRequest
from sft_tui.text import size

TIGHT = 0.85  # share of the available memory
LEAST_BUDGET = 64  # tokens of a micro-batch
# Findings that say what machines must have that could not be looked at, and which these are.
NEEDED_ELSEWHERE = frozenset({"machine_elsewhere", "memory_needed", "gpu_memory_needed"})


@dataclass(frozen=True)
class Peak:
    """The memory of the machine that all ranks need, predicted or rehearsed, and what they may take, in bytes."""

    config: RunConfig
    ranks: int
    prediction: MemoryPrediction  # of one rank
    total: int
    free: int
    rehearsed: bool

    @property
    def args(self) -> Mapping[str, Argument]:
        """The arguments of the words for it."""
        sizes = {"total": size(self.total), "free": size(self.free)}
        return {**sizes, "budget": self.config.micro_batch_tokens, "items": items(self.prediction, self.ranks)}


@dataclass(frozen=True)
class GpuPeak:
    """The memory of a GPU, by the driver's number, that its rank needs, and what is free on it, in bytes.

    None is free if the driver does not say.
    """

    number: int
    prediction: MemoryPrediction
    free: int | None

    @property
    def most(self) -> int:
        """The peak with all that is unsure."""
        return self.prediction.total + self.prediction.unsure

    @property
    def args(self) -> Mapping[str, Argument]:
        """The arguments of the words for it."""
        free = {} if self.free is None else {"free": size(self.free)}
        return {"gpu": self.number, "total": size(self.prediction.total), **free, "items": items(self.prediction)}


@dataclass(frozen=True)
class Needed:
    """The memory that a machine of which nothing is known needs for a number of ranks, and each of its GPUs."""

    ranks: int
    host: MemoryPrediction  # of one rank
    device: MemoryPrediction | None


@dataclass(frozen=True)
class Unpredicted:
    """A run whose memory cannot be predicted, by the family of its model."""

    family: str


MEMORY = Group[Peak]("Memory", "memory")
GPU = Group[GpuPeak]("Memory", "memory")
NEEDED = Group[Needed]("Memory", "memory")
UNPREDICTED = Group[Unpredicted]("Memory", "memory")


def findings(request: CheckRequest, family: str, peaks: MemoryFacts) -> Iterator[Finding]:
    """The findings on the memory that a rank needs on the machine and on its GPU."""
    if peaks.host is None:
        yield from UNPREDICTED.findings(Unpredicted(family))
    elif request.elsewhere:
        yield from NEEDED.findings(Needed(request.here, peaks.host, peaks.device))
    else:
        yield from MEMORY.findings(_peak(request, peaks.host))
    if peaks.device is not None:
        for gpu in request.cards:
            yield from GPU.findings(GpuPeak(gpu.index, peaks.device, gpu.free))


def _peak(request: CheckRequest, prediction: MemoryPrediction) -> Peak:
    config, rehearsal = request.config, request.rehearsal
    available = HostReader().read([], Path(config.output_dir)).memory_available
    free, total = min(available, request.memory_limit or available), prediction.total * request.here
    rehearsed = rehearsal is not None and config.micro_batch_tokens == rehearsal.found.micro_batch_tokens
    if rehearsal is not None and rehearsed:
        total = rehearsal.found.peak_memory_found
    return Peak(config, request.here, prediction, total, free, rehearsed)


def items(prediction: MemoryPrediction, ranks: int = 1) -> Phrase:
    """The items of a prediction."""
    each = (sized(name, size(count)) for name, count in prediction.items.items())
    joined = reduce(lambda done, more: Phrase.of("item.joined", done=done, more=more), each)
    return Phrase.of("item.of_ranks", ranks=ranks, items=joined) if ranks > 1 else joined


# --- remedies


def half_the_budget(_finding: Finding, run: CheckedRun) -> Actions:
    """Halve the budget of a micro-batch."""
    return (run.check(micro_batch_tokens=max(LEAST_BUDGET, run.config.micro_batch_tokens // 2)),)


def needs_less(finding: Finding, run: CheckedRun) -> Advice:
    """Use one process, with the same effective batch; else halve the budget of a micro-batch, or cut rows sooner."""
    config, ranks = run.config, int(finding.args["ranks"])
    if ranks > 1:
        words = Phrase.of("advice.one_process")
        same_batch = config.gradient_accumulation_steps * ranks
        less: Actions = (run.check(num_processes=1, gradient_accumulation_steps=same_batch),)
    elif finding.args["activations"] and config.micro_batch_tokens > LEAST_BUDGET:
        words = Phrase.of("advice.half_the_budget")
        less = half_the_budget(finding, run)
    else:
        words = Phrase.of("advice.cut_sooner")
        less = (run.check(max_seq_len=max(2, config.max_seq_len // 2)),)
    return Advice(words, less)


def rehearse(_finding: Finding, run: CheckedRun) -> Actions:
    """Rehearse the run."""
    return (run.rehearse,) if run.rehearse else ()


# --- checks


@MEMORY.check("memory_short", "error", remedy=needs_less)
def _memory_short(peak: Peak) -> Iterator[Seen]:
    """The run needs more than is available."""
    if peak.total > peak.free:
        activations = peak.prediction.items.get("activations", 0) * peak.ranks
        yield Seen({**peak.args, "ranks": peak.ranks, "activations": activations > peak.total // 4})


@MEMORY.check("memory_tight", "warning", remedy=half_the_budget)
def _memory_tight(peak: Peak) -> Iterator[Seen]:
    """It needs more than 85 % of what is available."""
    if TIGHT * peak.free < peak.total <= peak.free:
        yield Seen(peak.args)


@MEMORY.check("memory", "ok")
def _memory(peak: Peak) -> Iterator[Seen]:
    """The peak that is predicted."""
    if peak.total <= TIGHT * peak.free and not peak.rehearsed:
        yield Seen(peak.args)


@MEMORY.check("memory_rehearsed", "ok")
def _memory_rehearsed(peak: Peak) -> Iterator[Seen]:
    """The peak that a rehearsal measured."""
    if peak.total <= TIGHT * peak.free and peak.rehearsed:
        yield Seen(peak.args)


@GPU.check("gpu_memory_short", "warning", "error", remedy=half_the_budget)
def _gpu_memory_short(peak: GpuPeak) -> Iterator[Seen]:
    """A rank needs more than is free on its GPU; an error if weights, gradients and optimizer alone do."""
    if peak.free is not None and peak.prediction.total > peak.free:
        certain = sum(peak.prediction.items.get(name, 0) for name in ("weights", "gradients", "optimizer"))
        yield Seen(peak.args, "error" if certain > peak.free else "warning")


@GPU.check("gpu_memory_unknown", "warning", remedy=rehearse)
def _gpu_memory_unknown(peak: GpuPeak) -> Iterator[Seen]:
    """The driver does not say what is free on a GPU."""
    if peak.free is None:
        yield Seen(peak.args)


@GPU.check("gpu_memory_unsure", "warning", remedy=rehearse)
def _gpu_memory_unsure(peak: GpuPeak) -> Iterator[Seen]:
    """A rank needs more than is free on its GPU only if PyTorch computes attention by its plain kernel."""
    if peak.free is not None and peak.prediction.total <= peak.free < peak.most:
        yield Seen({**peak.args, "most": size(peak.most)})


@GPU.check("gpu_memory", "ok")
def _gpu_memory(peak: GpuPeak) -> Iterator[Seen]:
    """The peak that is predicted for a GPU."""
    if peak.free is not None and peak.most <= peak.free:
        yield Seen(peak.args)


@NEEDED.check("memory_needed", "ok")
def _memory_needed(needed: Needed) -> Iterator[Seen]:
    """What a machine needs, if the run's machines are not this one."""
    total = size(needed.host.total * needed.ranks)
    yield Seen({"total": total, "items": items(needed.host, needed.ranks)})


@NEEDED.check("gpu_memory_needed", "ok")
def _gpu_memory_needed(needed: Needed) -> Iterator[Seen]:
    """What a GPU needs, if the run's GPUs are not of this machine."""
    if needed.device is not None:
        most = needed.device.total + needed.device.unsure
        yield Seen({"total": size(most), "items": items(needed.device)})


@UNPREDICTED.check("memory_unknown", "warning", remedy=rehearse)
def _memory_unknown(run: Unpredicted) -> Iterator[Seen]:
    """The peak cannot be predicted for this family."""
    yield Seen({"family": run.family})
