"""The program of a rank, as a launcher starts it."""

import re
import socket
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from engine.contract import events
from engine.contract.rundir import RunDir
from tests.engine.conftest import reported

if TYPE_CHECKING:
    from tests.processes import Result


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_a_launch_that_would_be_two_runs_is_refused(
    start: "Callable[..., Result]", make_run: Callable[..., RunDir]
) -> None:
    """accelerate's multi-GPU launcher on a machine without GPUs starts processes that each believe they are alone."""
    if torch.cuda.is_available():
        pytest.skip("NOT TESTED: this machine has a GPU, and two processes are two ranks here")
    run_dir = make_run(processes=2)

    def rank(number: int) -> "Result":
        """As the launcher starts it; by itself the launcher ends the others as soon as one has ended."""
        place = {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "false"}
        return start(sys.executable, "-m", "engine.train", str(run_dir.path), **place, **meeting)

    port = free_port()
    with ThreadPoolExecutor() as pool:
        both = list(pool.map(rank, (0, 1)))
    # Rank 1 is refused as well, or finds that rank 0 has left: either way it trains nothing.
    assert both[0].code == 2, both
    assert both[1].code != 0, both
    (end,) = [record.event for record in reported(run_dir)]
    assert isinstance(end, events.RunEnded)
    assert (end.reason, end.message.code) == ("refused", "world_mismatch")
    assert (end.message.args["launched"], end.message.args["found"]) == (2, 1)
    assert "accelerate launch --cpu" in end.message.fix()
    assert not Path(run_dir.read_record().config["output_dir"]).exists()


def test_accelerate_launch_as_two_runs_is_refused(
    launch_two: "Callable[..., Result]", make_run: Callable[..., RunDir]
) -> None:
    if torch.cuda.is_available():
        pytest.skip("NOT TESTED: this machine has a GPU, and two processes are two ranks here")
    run_dir = make_run(processes=2)
    launched = launch_two("-m", "engine.train", str(run_dir.path), ACCELERATE_USE_CPU="false")
    assert launched.code != 0
    assert re.search(r"exitcode\s*: 2\b", launched.err), launched.err
    ends = [record.event for record in reported(run_dir)]
    assert all(isinstance(end, events.RunEnded) and end.message.code == "world_mismatch" for end in ends)
    assert len(ends) <= 1  # none where the launcher ended rank 0 first
    assert not Path(run_dir.read_record().config["output_dir"]).exists()
