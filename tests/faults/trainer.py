"""A trainer that misbehaves on request: `python -m tests.faults.trainer RUN_DIR`; the variable FAULT says how.

FAULT is a JSON object: `what` (see WAYS), at the call number `step` of a step, on rank `rank`; `slow_save`: seconds
that every flush of a file takes longer, so that a kill can be aimed into a save; `slow_share`: the same for files of
that rank's share of a divided model.
"""

import faulthandler
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from engine.contract.durable import sync
from engine.contract.rundir import RunDir
from engine.process.attempt import execute, leave
from engine.process.world import World
from engine.training import checkpoint
from engine.training.loop import train
from engine.training.step import StepResult, StepRunner


def fail() -> None:
    """Raises what no code of ours would."""
    raise LookupError("the shelf is empty \x1b[31m[/x]")


def run_out_of_memory() -> None:
    """Raises what Python raises where memory is short."""
    raise MemoryError


def run_out_of_gpu_memory() -> None:
    """Raises what torch raises where the memory of a GPU is short."""
    room = "GPU 0 has a total capacity of 11.76 GiB of which 1.25 GiB is free."
    raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate 2.00 GiB. {room} Of the allocated memory …")


def fail_on_the_gpu() -> None:
    """Raises what torch raises after a GPU gave up."""
    raise torch.AcceleratorError("CUDA error: unspecified launch failure\nSearch for `cudaErrorLaunchFailure' in …")


WAYS: dict[str, Callable[[], Any]] = {
    "raise": fail,
    "memory": run_out_of_memory,
    "gpu_memory": run_out_of_gpu_memory,
    "gpu": fail_on_the_gpu,
    "exit": lambda: os._exit(0),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "sleep": lambda: time.sleep(100_000),
    "crash": faulthandler._sigsegv,  # type: ignore[attr-defined]
}


def slow_share(delay: float) -> None:
    """Has each file of a share take longer."""
    from engine.training import shard_storage  # and with it torch's distributed checkpoint

    def slow(path: Path) -> None:
        time.sleep(delay)
        sync(path)

    patch.object(shard_storage, "sync", slow).start()


def misbehave(fault: dict[str, Any], rank: int) -> None:
    """Puts the fault into this process."""
    if delay := fault.get("slow_save"):
        flush = checkpoint._sync_file

        def slow(path: Path) -> None:
            time.sleep(delay)
            flush(path)

        checkpoint._sync_file = checkpoint._sync_folder = slow
    if fault.get("rank") != rank:
        return
    if "slow_share" in fault:
        slow_share(fault["slow_share"])
    run, calls = StepRunner.run, iter(range(1, 1 << 30))

    def faulty(self: StepRunner, samples: Any, *, stop_asked: bool) -> StepResult:
        if next(calls) == fault.get("step"):
            if fault["what"] == "nan":
                self.parameters[0].data.view(-1)[0] = float("nan")
            else:
                WAYS[fault["what"]]()
        return run(self, samples, stop_asked=stop_asked)

    StepRunner.run = faulty  # type: ignore[method-assign]


if __name__ == "__main__":
    world = World()
    misbehave(json.loads(os.environ.get("FAULT", "{}")), world.rank)
    leave(execute(world, RunDir(Path(sys.argv[1])), train))
