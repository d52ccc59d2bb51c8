"""Our trainer, which also reports the GPU's memory: `python -m bench.gpu_trainer train RUN_DIR RESULT.json`.

As engine.train and engine.rehearse; with `--killed-after STEP` the process kills itself once that step is written, as
a machine that fails would. With `--padded` the rows of a causal model are padded, as on a GPU that cannot have them end
to end.
"""

import argparse
import json
import os
import signal
from pathlib import Path
from typing import Any

from bench import device
from engine.contract.events import Record, Step
from engine.contract.rundir import RunDir
from engine.models.causal import choice
from engine.models.causal.computed import hold
from engine.models.causal.padded import PaddedCausal
from engine.models.loss import Head
from engine.models.network import Agreement, Network
from engine.process.attempt import execute, leave
from engine.process.world import World
from engine.training.loop import train
from engine.training.trial import rehearse

WORK = {"train": train, "rehearse": rehearse}


def padded(
    model: Any,
    head: Head | None,
    chunk: int,
    *,
    bf16: bool,
    agreement: Agreement | None = None,  # noqa: ARG001
) -> Network:
    """A causal model over padded rows, in place of `choice.chosen`."""
    hold(model, bf16=bf16)
    return PaddedCausal(model, head, chunk, bf16=bf16)


def main() -> None:
    """Runs the job to its end, and writes the peak."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("job", choices=WORK)
    options.add_argument("run_dir", type=Path)
    options.add_argument("result", type=Path)
    options.add_argument("--killed-after", type=int, default=0)
    options.add_argument("--padded", action="store_true")
    given = options.parse_args()
    if given.padded:
        choice.chosen = padded

    def listen(record: Record) -> None:
        if isinstance(record.event, Step) and record.event.step == given.killed_after:
            os.kill(os.getpid(), signal.SIGKILL)

    code = execute(World(), RunDir(given.run_dir), WORK[given.job], listen)
    given.result.write_text(json.dumps({"device_memory": device.peak_mb()}))
    leave(code)


if __name__ == "__main__":
    main()
