"""The run to check."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from engine.contract.config import RunConfig
from engine.contract.launch import OURS, Launch
from engine.contract.machine import gpus
from engine.contract.machine.gpus import UsableGpu
from sft_tui.options import options
from sft_tui.preflight.fix import Command, Set, Start
from sft_tui.rehearsal import Rehearsal, applied
from sft_tui.starting import DEFAULT_LOGS, processes_here


@dataclass(frozen=True)
class CheckRequest:
    """The run to check."""

    preset: str
    values: Mapping[str, Any]  # as given, overriding the preset's
    config: RunConfig
    logs: Path
    memory_limit: int = 0  # bytes; 0: the machine's memory
    fresh: bool = False  # move an unfinished run in the output folder aside
    rehearsal: Rehearsal | None = None  # one that applies to this run
    launch: Launch = OURS  # who starts its processes, if not our own supervisor

    @classmethod
    def of(cls, preset: str, values: Mapping[str, Any], config: RunConfig, logs: Path, **more: Any) -> Self:
        """The request with the budget found by a rehearsal, if there was one."""
        plain = cls(preset, values, config, logs, **more)
        found, rehearsal = applied(logs, config, plain.rehearsed_as, values)
        return replace(plain, config=found, rehearsal=rehearsal)

    @property
    def asked(self) -> RunConfig:
        """The settings without a rehearsal's budget."""
        if self.rehearsal is None or "micro_batch_tokens" in self.values:
            return self.config
        return replace(self.config, micro_batch_tokens=self.rehearsal.found.micro_batch_tokens_asked)

    @property
    def processes(self) -> int:
        """The number of ranks it will have."""
        return self.launch.processes if self.launch.launcher else self.here

    @property
    def here(self) -> int:
        """The number of ranks that it will have on one machine."""
        return self.launch.on_each if self.launch.launcher else self.config.num_processes or processes_here()

    @property
    def rehearsed_as(self) -> int:
        """The number of processes of a rehearsal here that serves this run; 0 if none does.

        On several machines a process takes as many rows of a step as on one, so its micro-batches are the same; but of
        a divided model it then holds less.
        """
        if not self.launch.launcher:
            return self.here
        alike = self.config.shard == "off" and not self.elsewhere and self.on_gpu == gpus.in_use()
        return self.here if alike else 0

    @property
    def on_gpu(self) -> bool:
        """Whether its ranks compute on GPUs: as the launcher will be asked, else if this machine has some."""
        return self.launch.gpus > 0 if self.launch.launcher else gpus.in_use()

    @property
    def elsewhere(self) -> bool:
        """Whether its machines are surely or probably others than this one, of which nothing is known."""
        if self.launch.launcher == "slurm":
            return True  # which is asked from a machine where people log in
        return bool(self.launch.launcher) and self.launch.gpus > gpus.gpu_count()

    @property
    def cards(self) -> tuple[UsableGpu, ...]:
        """The GPUs of this machine that its ranks take, rank 0 the first; none if they compute elsewhere."""
        return tuple(gpus.usable()[: self.here]) if self.on_gpu and not self.elsewhere else ()

    @property
    def gpus_bf16(self) -> bool:
        """Whether its GPUs all compute in bf16, which is assumed of those elsewhere: if one does not, none will."""
        return self.on_gpu and all(card.bf16 for card in self.cards)

    def changed(self, **changes: Any) -> Set:
        """The action that checks this run with other settings."""
        return Set(self.preset, self.values, changes)

    @property
    def start(self) -> Start:
        """The action that starts this run."""
        return Start(self.preset, self.values)

    @property
    def prepare(self) -> Command:
        """The action that prepares this run for a launcher."""
        counts = ("--nodes", str(self.launch.nodes), "--gpus", str(self.launch.gpus))
        return Command(("prepare", self.preset, *counts, *options(self.values)))

    @property
    def rehearse(self) -> Command:
        """The action that rehearses this run."""
        logs = () if self.logs == DEFAULT_LOGS else ("--logs", str(self.logs))
        return Command(("rehearse", self.preset, *logs, *options(self.values)))
