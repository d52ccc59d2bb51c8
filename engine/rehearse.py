"""Rehearse: `python -m engine.rehearse RUN_DIR` does once what a run does many times, and reports what that takes."""

import contextlib
import os
import sys
from pathlib import Path

from engine.contract.rundir import RunDir
from engine.process.job import execute, leave
from engine.process.world import World
from engine.training.trial import rehearse

OOM_SCORE = 1000  # the first to go where memory runs out


def _volunteer() -> None:
    """Has the kernel end this process before any other where memory runs out: nothing of it is worth keeping."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{os.getpid()}/oom_score_adj").write_text(str(OOM_SCORE))


if __name__ == "__main__":
    _volunteer()
    leave(execute(World(), RunDir(Path(sys.argv[1])), rehearse))
