"""Rehearse: `python -m engine.rehearse RUN_DIR` does once what a run does many times, and reports its cost."""

import contextlib
import os
import sys
from pathlib import Path

from engine.contract.rundir import RunDir
from engine.process.attempt import execute, leave
from engine.process.joining import joined
from engine.training.trial import rehearse

OOM_SCORE = 1000  # the first process to be killed if memory runs out


def _prefer_for_oom_kill() -> None:
    """Has the kernel kill this process before any other if memory runs out: none of its work is worth keeping."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{os.getpid()}/oom_score_adj").write_text(str(OOM_SCORE))


if __name__ == "__main__":
    _prefer_for_oom_kill()
    run_dir = RunDir(Path(sys.argv[1]))
    leave(execute(joined(run_dir), run_dir, rehearse))
