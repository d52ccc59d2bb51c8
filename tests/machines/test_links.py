"""Machines that never come, and a connection between two of three that fails, or never was."""

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.contract import events
from engine.contract.rundir import RunDir
from engine.contract.stream import EventReader, last_step
from sft_tui import listing, runs
from tests.machines.networks import Network, connected
from tests.machines.ranks import Ranks, started
from tests.processes import until

pytestmark = pytest.mark.slow

LONG = {"gradient_accumulation_steps": 3, "epochs": 5000, "save_steps": 50, "keep_latest_n_ckp": 2}
NAMES = ["switch", "ash", "oak", "elm"]
IMPATIENT = [str(Path(__file__).with_name("impatient.py"))]


@pytest.fixture
def network() -> Iterator[Network]:
    if os.geteuid() or any(shutil.which(program) is None for program in ("ip", "nsenter")):
        pytest.skip("NOT TESTED: several machines need root and iproute2 (network namespaces)")
    with connected(NAMES) as made:
        yield made


def the_end(run_dir: RunDir) -> events.RunEnded:
    found = [record.event for record in EventReader(run_dir.events).poll()]
    (end,) = [event for event in found if isinstance(event, events.RunEnded)]
    return end


@contextlib.contextmanager
def three_machines(network: Network, run_dir: RunDir, folder: Path, port: int) -> Iterator[Ranks]:
    """One rank of a run on each machine but the switch."""
    machines = NAMES[1:]
    where, address = [network.within(name, []) for name in machines], network.addresses["ash"]
    how: dict[str, Any] = {"nodes": machines, "within": where, "program": IMPATIENT}
    with started([run_dir.path] * 3, folder, address, port, **how) as ranks:
        yield ranks


@pytest.mark.parametrize("rank", [0, 1])
def test_a_machine_that_never_comes_is_named(
    network: Network, make_run: Callable[..., RunDir], tmp_path: Path, rank: int
) -> None:
    run_dir = make_run(processes=2)
    name, place = NAMES[1 + rank], {"RANK": str(rank), "WORLD_SIZE": "2"}
    where, address = [network.within(name, [])], network.addresses["ash"]
    how: dict[str, Any] = {"nodes": [name], "within": where, "env": place, "program": IMPATIENT}
    with started([run_dir.path], tmp_path, address, 29700 + rank, **how) as ranks:
        if not rank:
            until(lambda: runs.read_run(run_dir).state.awaited is not None)
            run = runs.read_run(run_dir)
            assert (run.status, run.alive) == ("starting", True)
            assert "1 of 2 have come; missing ranks: 1" in listing.status_line(run, "en")
        assert ranks.codes() == [2], ranks.said(0)
    said = ranks.said(0)
    if rank:
        assert "Waiting for rank 0 at 10.98.0.2:29701" in said
        assert "Rank 1 on oak could not meet the others at 10.98.0.2:29701" in said
    else:
        assert "Of 2 processes these did not join within" in said
        assert (the_end(run_dir).message.code, the_end(run_dir).message.args["absent"]) == ("meeting_incomplete", "1")
        assert runs.read_run(run_dir).status == "refused"


def test_a_connection_that_fails_between_two_others_is_named(
    network: Network, make_run: Callable[..., RunDir], tmp_path: Path
) -> None:
    """All signs of life go through the first machine, which reaches both."""
    run_dir = make_run(processes=3, **LONG)
    with three_machines(network, run_dir, tmp_path, 29710) as ranks:
        until(lambda: run_dir.events.exists() and last_step(run_dir.events) > 5)
        began = time.monotonic()
        network.cut("oak", "elm")
        assert ranks.codes() == [1, 1, 1], [ranks.said(rank) for rank in range(3)]
    print(f"{time.monotonic() - began:.1f} s to the end")
    end = the_end(run_dir)
    assert (end.reason, end.message.code) == ("link_lost", "ended_stood_still")
    assert "rank 1 on oak and rank 2 on elm" in end.message.what()
    assert runs.read_run(run_dir).status == "link_lost"
    for rank in range(3):
        assert "have waited in one exchange since" in ranks.said(rank)


def test_two_that_cannot_connect_to_each_other_are_named_by_all(
    network: Network, make_run: Callable[..., RunDir], tmp_path: Path
) -> None:
    """As where a firewall lets only the endpoint's port through: all meet there, and two get no further."""
    run_dir = make_run(processes=3, **LONG)
    network.cut("oak", "elm")
    with three_machines(network, run_dir, tmp_path, 29720) as ranks:
        assert ranks.codes() == [2, 2, 2], [ranks.said(rank) for rank in range(3)]
    end = the_end(run_dir)
    assert (end.reason, end.message.code) == ("refused", "meeting_apart")
    assert (end.message.args["numbers"], end.message.args["nodes"]) == ("1, 2", "oak, elm")
    for rank in range(3):
        assert "no connection to some of the others: 1, 2 (by rank), on oak, elm" in ranks.said(rank)
