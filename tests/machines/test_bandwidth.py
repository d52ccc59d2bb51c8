"""What a step's sum of gradients takes between machines of a limited connection, against the model on the page."""

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from engine.contract.traffic import StepCost
from tests.machines.networks import LIMIT, Network, connected

pytestmark = pytest.mark.slow

MEGABITS = 100  # a second: so slow that the processor, which serves all machines, takes no part
NUMBERS, TIMES = 1_000_000, 5
PROGRAM = Path(__file__).with_name("summing.py")


def measured(network: Network, numbers: int, folder: Path) -> float:
    """The median of the seconds that all machines but the switch take to sum that many numbers."""
    _, *names = network.addresses
    processes = []
    try:
        for rank, name in enumerate(names):
            place = {"RANK": str(rank), "LOCAL_RANK": "0", "WORLD_SIZE": str(len(names)), "LOCAL_WORLD_SIZE": "1"}
            meeting = {"MASTER_ADDR": network.addresses[names[0]], "MASTER_PORT": "29610", "SFT_TUI_NODE": name}
            words = [sys.executable, "-P", str(PROGRAM), str(numbers), str(TIMES)]
            with (folder / f"{name}.txt").open("wb") as output:
                processes.append(
                    subprocess.Popen(
                        network.within(name, words),
                        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", **place, **meeting},
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                )
        codes = [process.wait(2 * LIMIT) for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(LIMIT)
    said = (folder / f"{names[0]}.txt").read_text()
    assert codes == [0] * len(names), said
    return float(statistics.median(json.loads(said.splitlines()[-1])))


@pytest.mark.parametrize("machines", [2, 4, 8])
def test_the_model_of_a_step_says_what_the_network_takes(machines: int, tmp_path: Path) -> None:
    if os.geteuid() or any(shutil.which(program) is None for program in ("ip", "tc", "nsenter")):
        pytest.skip("NOT TESTED: several machines need root and iproute2 (network namespaces)")
    with connected(["switch", *(f"m{number}" for number in range(machines))]) as network:
        for name in network.addresses:
            if name != "switch":
                network.limit(name, MEGABITS)
        found = measured(network, NUMBERS, tmp_path)
    expected = StepCost(0.0, NUMBERS, machines, MEGABITS / 1000).network
    assert found == pytest.approx(expected, rel=0.3)
