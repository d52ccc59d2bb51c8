"""A training that is killed in the middle of a save: `killed.py RUN_DIR STEP`."""

import os
import signal
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

from engine.contract.rundir import RunDir
from engine.process.attempt import execute, leave
from engine.process.world import World
from engine.training.checkpoint import CheckpointWriter
from engine.training.loop import train

whole = CheckpointWriter._publish


def main(run_dir: RunDir, step: int) -> None:
    def publish(writer: CheckpointWriter, staged: Path, final: Path, about: Any) -> int:
        if about.step == step:
            writer._write_files(staged)
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(writer, staged, final, about)

    with patch.object(CheckpointWriter, "_publish", publish):
        leave(execute(World(), run_dir, train))


if __name__ == "__main__":
    main(RunDir(Path(sys.argv[1])), int(sys.argv[2]))
