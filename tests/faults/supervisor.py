"""A supervisor whose ranks misbehave on request: `python -m tests.faults.supervisor RUN_DIR`."""

import sys
from pathlib import Path

from sft_tui.supervise import ranks, supervisor

if __name__ == "__main__":
    ranks.MODULES["train"] = "tests.faults.trainer"
    sys.exit(supervisor.main(Path(sys.argv[1])))
