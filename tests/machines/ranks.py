"""Ranks started by hand, with the variables that torchrun would give them."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.processes import kill_tree

LIMIT = 240.0  # seconds


class Ranks:
    """The ranks of one run, each as if on a machine of its own."""

    def __init__(self, folder: Path, processes: Sequence[subprocess.Popen[bytes]]) -> None:
        self.folder, self.processes = folder, processes

    def codes(self) -> list[int]:
        """The exit codes of all ranks, once all have ended."""
        return [process.wait(LIMIT) for process in self.processes]

    def kill(self, rank: int) -> None:
        """Ends every process of a rank's machine, which says nothing any more."""
        kill_tree(self.processes[rank])

    def said(self, rank: int) -> str:
        """What a rank wrote to its terminal."""
        return (self.folder / f"rank{rank}.txt").read_text()


@contextlib.contextmanager
def started(
    run_dirs: Sequence[Path],
    folder: Path,
    address: str,
    port: int,
    *,
    nodes: Sequence[str],
    within: Sequence[Sequence[str]] = ((), (), ()),
    env: Mapping[str, str] | None = None,
    program: Sequence[str] = ("-m", "engine.train"),
) -> Iterator[Ranks]:
    """The ranks of a run, each given its own path to the run's folder; `within` are commands that start each."""
    processes = []
    try:
        for rank, run_dir in enumerate(run_dirs):
            place = {"RANK": str(rank), "LOCAL_RANK": "0", "WORLD_SIZE": str(len(run_dirs)), "LOCAL_WORLD_SIZE": "1"}
            meeting = {"MASTER_ADDR": address, "MASTER_PORT": str(port), "SFT_TUI_NODE": nodes[rank]}
            with (folder / f"rank{rank}.txt").open("wb") as output:
                processes.append(
                    subprocess.Popen(
                        [*within[rank], sys.executable, "-P", *program, str(run_dir)],
                        env={**os.environ, "LC_ALL": "C.UTF-8", **place, **meeting, **(env or {})},
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                )
        yield Ranks(folder, processes)
    finally:
        for process in processes:
            kill_tree(process)
