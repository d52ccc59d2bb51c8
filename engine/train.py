"""Train: `python -m engine.train RUN_DIR`, alone or under `accelerate launch`; RUN_DIR holds the run's record."""

import sys
from pathlib import Path

from engine.contract.rundir import RunDir
from engine.process.attempt import execute, leave
from engine.process.joining import joined
from engine.process.readings import watched
from engine.training.loop import train

if __name__ == "__main__":
    run_dir = RunDir(Path(sys.argv[1]))
    leave(execute(joined(run_dir), run_dir, watched(train)))
