"""Launches of sharded_ranks.py on some ranks, and what they found."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.contract import environment
from engine.contract.config import RunConfig, to_json
from engine.contract.rundir import RunDir
from tests.processes import kill_tree

SCRIPT = Path(__file__).with_name("sharded_ranks.py")
LIMIT = 240.0  # seconds
CUT, STEPS = 4, 5  # of the six steps of a run: where it is cut, and where it stops


@dataclass(frozen=True)
class Launch:
    """What the ranks of a launch left in a folder."""

    folder: Path
    found: list[dict[str, Any]]  # by rank


def launched(
    folder: Path,
    ranks: int,
    gradients: Mapping[str, RunConfig] = {},
    runs: Mapping[str, tuple[RunDir, int]] = {},
    short: str = "",
    device: str = "cpu",
) -> Launch:
    """Runs the cases on this number of ranks; a run stops after the step that it comes with, if that is not 0.

    With `short`, forward or backward, runs are rehearsals on whose rank 1 memory runs out there.
    """
    folder.mkdir()
    cases = {name: to_json(config) for name, config in gradients.items()}
    spec = {"gradients": cases, "runs": {name: (str(run.path), last) for name, (run, last) in runs.items()}}
    spec["short"] = short
    (folder / "spec.json").write_text(json.dumps(spec))
    run_on(ranks, folder, str(SCRIPT), str(folder), device=device)
    return Launch(folder, [json.loads((folder / f"{rank}.json").read_text()) for rank in range(ranks)])


def run_on(ranks: int, folder: Path, *what: str, device: str = "cpu") -> None:
    """Runs a script to its end on this number of ranks, in a folder."""
    processes = [started(what, folder, rank, ranks, device) for rank in range(ranks)]
    try:
        codes = [process.wait(LIMIT) for process in processes]
    finally:
        for process in processes:
            kill_tree(process)
    assert codes == [0] * ranks, (folder / "output").read_text()


def started(
    what: tuple[str, ...], folder: Path, rank: int, ranks: int, device: str = "cpu"
) -> "subprocess.Popen[bytes]":
    """One rank, which meets the others through a file in a folder, as under our own supervisor."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
    meeting = f"file://{folder / 'meeting'}"
    if device == "cuda":
        meeting += f"?rank={rank}&world_size={ranks}"
    env = {**os.environ, environment.RENDEZVOUS: meeting, **{name: str(value) for name, value in place.items()}}
    env["ACCELERATE_USE_CPU"] = str(device == "cpu").lower()
    env |= {"PYTHONPATH": str(SCRIPT.parents[3]), "OMP_NUM_THREADS": "1"}
    with (folder / "output").open("ab") as output:
        return subprocess.Popen((sys.executable, *what), env=env, stdout=output, stderr=output, cwd=folder)
