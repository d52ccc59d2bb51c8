"""The trainer, which waits for missing ranks, connections, and in one exchange of all, for a shorter time."""

import sys
from datetime import timedelta
from pathlib import Path

from engine.contract.rundir import RunDir
from engine.process import meeting, roll_call, signs
from engine.process.attempt import execute, leave
from engine.process.joining import joined
from engine.training.loop import train

if __name__ == "__main__":
    roll_call.LIMIT_SECONDS, signs.LEAST_SECONDS = 15.0, 40.0
    meeting.CONNECT_LIMIT = timedelta(seconds=3)
    run_dir = RunDir(Path(sys.argv[1]))
    leave(execute(joined(run_dir), run_dir, train))
