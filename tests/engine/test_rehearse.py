"""The program that rehearses a run."""

import subprocess
import sys
from pathlib import Path

from tests.processes import kill_tree, until


def test_a_rehearsal_is_the_first_to_go_if_memory_runs_out(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "engine.rehearse", str(tmp_path)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    score = Path(f"/proc/{process.pid}/oom_score_adj")
    try:
        until(lambda: score.read_text().strip() == "1000", 60)  # of a zombie too
        assert process.wait(60) == 2  # there is no record of a run
    finally:
        kill_tree(process)
