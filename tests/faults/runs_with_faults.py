"""Runs of the tiny model whose ranks misbehave on request, started as the app starts them."""

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from engine.contract import events
from engine.contract.events import Step
from engine.contract.outputdir import OutputDir
from engine.contract.processes import ProcessId, read_processes
from engine.contract.rundir import RunDir
from engine.contract.stream import EventReader
from sft_tui import runs, starting
from sft_tui.starting import Started
from tests.processes import LIMIT, until

ROOT = Path(__file__).parents[2]


@dataclass
class Runs:
    """Starts, watches and kills runs in one folder."""

    folder: Path
    settings: Mapping[str, Any]
    patch: pytest.MonkeyPatch

    @property
    def run_dir(self) -> RunDir:
        """The folder of the one run."""
        return RunDir(self.folder / "logs" / "sft-small-1")

    @property
    def output(self) -> OutputDir:
        """The folder of its checkpoints."""
        return OutputDir(self.folder / "out")

    def start(self, fault: Mapping[str, Any] = {}, **settings: Any) -> Started:
        """Starts a new run."""
        values = {**self.settings, "output_dir": str(self.output.path), **settings}
        return self._start(starting.plan_run("sft-small", values), fault)

    def resume(self, fault: Mapping[str, Any] = {}, **how: Any) -> Started:
        """Resumes it."""
        return self._start(starting.plan_resume(self.look().record, {}, **how), fault)

    def _start(self, record: Any, fault: Mapping[str, Any]) -> Started:
        self.patch.setenv("FAULT", json.dumps(fault))
        self.patch.setenv("PYTHONPATH", str(ROOT))
        self.patch.setattr(starting, "COMMAND", [sys.executable, "-m", "tests.faults.supervisor"])
        return starting.start(self.folder / "logs", record)

    def look(self) -> runs.Run:
        """How it is."""
        return runs.read_run(self.run_dir)

    def ended(self, started: Started) -> events.RunEnded:
        """The end of the attempt, once no process of it is left."""
        until(lambda: started.supervisor.poll() is not None, LIMIT)
        until(lambda: not self.look().alive, LIMIT)
        end = self.look().state.ended
        assert end is not None
        return end

    def process(self, who: str | int) -> ProcessId:
        """The supervisor, or a rank by its number."""
        found = read_processes(self.run_dir)
        one = found.ranks[who] if isinstance(who, int) else found.supervisor
        assert one.pid
        return one

    def kill(self, who: str | int, number: int = signal.SIGKILL) -> None:
        """Signals it, if it still is there."""
        one = self.process(who)
        if one.alive():
            os.kill(one.pid, number)

    def steps(self) -> dict[int, tuple[float, float, tuple[int, ...]]]:
        """Loss, learning rate and sample ids of every step; a repeated step must repeat them."""
        found: dict[int, tuple[float, float, tuple[int, ...]]] = {}
        for record in EventReader(self.run_dir.events).poll():
            if isinstance(event := record.event, Step):
                value = (event.loss, event.lr, tuple(event.sample_ids))
                assert found.setdefault(event.step, value) == value
        return found

    def acknowledged(self) -> list[int]:
        """Steps of the checkpoints that the stream tells of."""
        return [
            record.event.step
            for record in EventReader(self.run_dir.events).poll()
            if isinstance(record.event, events.Checkpoint)
        ]

    def trains(self, attempt: int, more: int = 1) -> Callable[[], bool]:
        """A condition: the attempt has done this many steps."""
        reader, seen = EventReader(self.run_dir.events), [0]

        def condition() -> bool:
            seen[0] += sum(
                isinstance(record.event, Step) and record.envelope.attempt == attempt for record in reader.poll()
            )
            return seen[0] >= more

        return condition
