"""Two machines, each a network namespace of this one, joined by a cable that can be pulled."""

import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.contract import events
from engine.contract.rundir import RunDir
from tests.engine.conftest import Outcome, outcome_of
from tests.machines.ranks import started

pytestmark = pytest.mark.slow

ADDRESS, PORT = "10.99.0.1", 29600


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=30)


@pytest.fixture(scope="module")
def machines() -> Iterator[tuple[str, str]]:
    """The names of two namespaces, with the addresses 10.99.0.1 and .2."""
    if os.geteuid() or shutil.which("ip") is None:
        pytest.skip("NOT TESTED: several machines need root and iproute2 (network namespaces)")
    mark = secrets.token_hex(3)
    names = (f"a{mark}", f"b{mark}")
    try:
        for name in names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("link", "add", f"v{names[0]}", "netns", names[0], "type", "veth", "peer", f"v{names[1]}", "netns", names[1])
        for number, name in enumerate(names, 1):
            ip("-n", name, "addr", "add", f"10.99.0.{number}/24", "dev", f"v{name}")
            ip("-n", name, "link", "set", f"v{name}", "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True, timeout=30)


def inside(names: tuple[str, str]) -> list[list[str]]:
    return [["ip", "netns", "exec", name] for name in names]


def losses(outcome: Outcome) -> list[float]:
    return [event.loss for event in outcome.all(events.Step)]


def test_two_machines_have_the_losses_of_two_local_ranks(
    machines: tuple[str, str], make_run: Callable[..., RunDir], uncut_on_two: tuple[object, Outcome], tmp_path: Path
) -> None:
    run_dir = make_run(processes=2, gradient_accumulation_steps=4)
    where = inside(machines)
    with started([run_dir.path] * 2, tmp_path, ADDRESS, PORT, nodes=machines, within=where) as ranks:
        assert ranks.codes() == [0, 0], (ranks.said(0), ranks.said(1))
    assert losses(outcome_of(run_dir, 0)) == losses(uncut_on_two[1])


def test_folders_that_two_machines_do_not_share_are_refused(
    machines: tuple[str, str], make_run: Callable[..., RunDir], tmp_path: Path
) -> None:
    run_dir = make_run(processes=2)
    shutil.copytree(run_dir.path, tmp_path / "own")
    folders, where = [run_dir.path, tmp_path / "own"], inside(machines)
    with started(folders, tmp_path, ADDRESS, PORT + 1, nodes=machines, within=where) as ranks:
        assert ranks.codes() == [2, 2], (ranks.said(0), ranks.said(1))
    (end,) = outcome_of(run_dir, 2).all(events.RunEnded)
    assert (end.message.code, end.message.args["nodes"]) == ("folder_not_shared", machines[1])
