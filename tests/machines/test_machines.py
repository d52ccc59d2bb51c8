"""Two machines, each a network namespace of this one, joined by a cable that can be pulled."""

import contextlib
import dataclasses
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from engine.contract import events
from engine.contract.files import STAGED
from engine.contract.launch import Launch
from engine.contract.rundir import RunDir
from engine.contract.stream import EventReader, last_step
from sft_tui import launch_lines, runs
from tests.engine.conftest import Outcome, outcome_of
from tests.engine.models.causal.small import chatty
from tests.machines.ranks import Ranks, started
from tests.processes import Result, until

pytestmark = pytest.mark.slow

ADDRESS, PORT = "10.99.0.1", 29600
NAMED = 'hostname "$0" && mount --bind "$1" /etc/hosts && shift && exec "$@"'
LONG = {"gradient_accumulation_steps": 4, "epochs": 2000, "save_steps": 5, "keep_latest_n_ckp": 2}


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=30)


def tc(*arguments: str) -> None:
    subprocess.run(["tc", *arguments], check=True, capture_output=True, timeout=30)


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
    """Commands that start others on each machine, with the machine's number for torchrun."""
    return [["ip", "netns", "exec", name, "env", f"PET_NODE_RANK={number}"] for number, name in enumerate(names)]


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
    hosts = runs.read_run(run_dir).state.hosts
    assert [(host.node, host.ranks) for host in hosts] == [(machines[0], [0]), (machines[1], [1])]
    assert all(host.rank_memory[0] > 1_000_000 for host in hosts)


def test_machines_that_call_themselves_loopback_meet(
    machines: tuple[str, str], make_run: Callable[..., RunDir], uncut_on_two: tuple[object, Outcome], tmp_path: Path
) -> None:
    """As Debian's hosts file has it; only the second machine knows the other's name."""
    run_dir = make_run(processes=2, gradient_accumulation_steps=4)
    launch, within = Launch("torchrun", 2, 0, f"ash:{PORT + 9}"), []
    others = ("", f"{ADDRESS} ash")
    for number, (space, host, other) in enumerate(zip(machines, ("ash", "oak"), others, strict=True)):
        hosts = tmp_path / f"hosts-{host}"
        hosts.write_text(f"127.0.0.1 localhost\n127.0.1.1 {host}\n{other}\n")
        begin = ["ip", "netns", "exec", space, "unshare", "--uts", "--mount", "bash", "-c", NAMED, host, str(hosts)]
        line = launch_lines.torchrun(str(run_dir.path), launch, number)
        within.append([*begin, *line[: -len(launch_lines.rank_command(""))]])
    with started([run_dir.path] * 2, tmp_path, ADDRESS, PORT, nodes=("ash", "oak"), within=within) as ranks:
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


def test_the_log_says_what_the_network_carries(
    machines: tuple[str, str], make_run: Callable[..., RunDir], tmp_path: Path
) -> None:
    """100 Mbit/s are 12.5 MB/s."""
    if shutil.which("tc") is None:
        pytest.skip("NOT TESTED: a slow network needs tc")
    run_dir, where = make_run(processes=2, gradient_accumulation_steps=4, epochs=1), inside(machines)
    bucket = ("tbf", "rate", "100mbit", "burst", "64kb", "latency", "500ms")
    try:
        for name in machines:
            tc("-n", name, "qdisc", "replace", "dev", f"v{name}", "root", *bucket)
        with started([run_dir.path] * 2, tmp_path, ADDRESS, PORT + 7, nodes=machines, within=where) as ranks:
            assert ranks.codes() == [0, 0], (ranks.said(0), ranks.said(1))
    finally:
        for name in machines:
            tc("-n", name, "qdisc", "del", "dev", f"v{name}", "root")
    found = [event.message for event in outcome_of(run_dir, 0).all(events.Notice)]
    (said,) = [message for message in found if message.code == "network_measured"]
    print(said.text())
    assert 9 < float(str(said.args["rate"])) < 13


# --- a machine that is gone


@contextlib.contextmanager
def training(
    run_dir: RunDir,
    machines: tuple[str, str],
    folder: Path,
    port: int,
    first: int = 0,
    launchers: Sequence[Sequence[str]] = ((), ()),
) -> Iterator[Ranks]:
    """Both ranks, once they have saved: rank 0 is on the machine with this number, unless launchers decide."""
    where, address = inside(machines), f"10.99.0.{1 + first}"
    nodes = [machines[first], machines[1 - first]]
    within = [[*where[first], *launchers[0]], [*where[1 - first], *launchers[1]]]
    with started([run_dir.path] * 2, folder, address, port, nodes=nodes, within=within) as ranks:
        until(lambda: run_dir.events.exists() and last_step(run_dir.events) > 5)
        yield ranks


def ends(path: Path) -> list[events.RunEnded]:
    return [record.event for record in EventReader(path).poll() if isinstance(record.event, events.RunEnded)]


def seconds_to_the_end(ranks: Ranks, *numbers: int) -> float:
    """How long ranks take to end with an error."""
    began = time.monotonic()
    for number in numbers:
        assert ranks.processes[number].wait(90) == 1, ranks.said(number)
    return time.monotonic() - began


@pytest.mark.parametrize("launched", [False, True], ids=["ranks", "torchrun"])
def test_a_link_that_goes_down_in_a_step_ends_both_machines(
    machines: tuple[str, str], make_run: Callable[..., RunDir], tmp_path: Path, launched: bool
) -> None:
    run_dir, cable, port = make_run(processes=2, **LONG), f"v{machines[0]}", PORT + (110 if launched else 2)
    launchers = torchrun(port) if launched else [[], []]
    with training(run_dir, machines, tmp_path, port, launchers=launchers) as ranks:
        ip("-n", machines[0], "link", "set", cable, "down")
        try:
            seconds = seconds_to_the_end(ranks, 0, 1)
        finally:
            ip("-n", machines[0], "link", "set", cable, "up")
    print(f"{seconds:.1f} s to the end")
    assert seconds < 60
    for path, other in ((run_dir.events, machines[1]), (run_dir.events_of(1), machines[0])):
        (end,) = ends(path)
        assert (end.reason, end.message.args["node"]) == ("machine_lost", other)
    run = runs.read_run(run_dir)
    assert run.status == "machine_lost"
    assert run.state.ended is not None
    assert run.state.ended.message.args["node"] == machines[1]  # as rank 0's side saw it
    assert run.state.ended.evidence["also_lost"] == f"rank1 ({machines[1]})"


@pytest.mark.parametrize("killed", [0, 1])
def test_a_machine_that_dies_ends_the_other_with_its_name(
    machines: tuple[str, str],
    make_run: Callable[..., RunDir],
    tmp_path: Path,
    killed: int,
) -> None:
    run_dir = make_run(processes=2, **LONG)
    with training(run_dir, machines, tmp_path, PORT + 3 + killed) as ranks:
        ranks.kill(killed)
        seconds = seconds_to_the_end(ranks, 1 - killed)
    print(f"{seconds:.1f} s to the end")
    assert seconds < 60
    (end,) = ends(run_dir.events if killed else run_dir.events_of(1))
    assert (end.reason, end.message.args["node"]) == ("machine_lost", machines[killed])
    assert runs.read_run(run_dir).status == "machine_lost"


def test_a_machine_lost_in_a_save_of_its_share_ends_the_other(
    machines: tuple[str, str], make_run: Callable[..., RunDir], tmp_path: Path
) -> None:
    """The others wait for its share, and not for as long as one may take to write its own."""
    divided = {**chatty(tmp_path, "llama"), "shard": "full"}
    run_dir, cable = make_run(processes=2, **{**LONG, "epochs": 40}, **divided), f"v{machines[1]}"
    checkpoints = outcome_of(run_dir, 0).output.checkpoints
    env = {"FAULT": json.dumps({"rank": 1, "slow_share": 120.0}), "PYTHONPATH": str(Path(__file__).parents[2])}
    program = ("-m", "tests.faults.trainer")
    how: dict[str, Any] = {"nodes": machines, "within": inside(machines), "env": env, "program": program}
    with started([run_dir.path] * 2, tmp_path, ADDRESS, PORT + 9, **how) as ranks:
        until(lambda: any(checkpoints.glob(f"{STAGED}*/shard-00001-*")), 120)
        ip("-n", machines[1], "link", "set", cable, "down")
        try:
            seconds = seconds_to_the_end(ranks, 0)
        finally:
            ip("-n", machines[1], "link", "set", cable, "up")
    print(f"{seconds:.1f} s to the end")
    assert seconds < 60
    (end,) = ends(run_dir.events)
    assert (end.reason, end.message.args["node"]) == ("machine_lost", machines[1])


def torchrun(port: int, endpoint: int | None = None) -> list[list[str]]:
    """The printed lines; with an `endpoint`, a machine's number, such as a cluster's own tools may make of them.

    With these a launcher asks the endpoint all the time, and signals its ranks when that machine is gone.
    """
    launch, lines = Launch("torchrun", 2, 0, f"{ADDRESS}:{port}"), []
    for number in (0, 1):
        line = launch_lines.torchrun("", launch, number)[: -len(launch_lines.rank_command(""))]
        if endpoint is not None:
            meeting = [f"--rdzv-endpoint=10.99.0.{1 + endpoint}:{port}", f"--local-addr=10.99.0.{1 + number}"]
            kept = [word for word in line if not word.startswith(("--master", "--node-rank"))]
            line = [*kept, "--rdzv-backend=c10d", f"--rdzv-conf=is_host={int(number == endpoint)}", *meeting]
        lines.append(line)
    return lines


@pytest.mark.parametrize(("killed", "endpoint"), [(0, None), (1, None), (0, 0), (1, 1)])
def test_under_torchrun_a_machine_that_dies_is_named_too(
    machines: tuple[str, str], make_run: Callable[..., RunDir], tmp_path: Path, killed: int, endpoint: int | None
) -> None:
    run_dir, port = make_run(processes=2, **LONG), PORT + 100 + 2 * killed + (endpoint is None)
    with training(run_dir, machines, tmp_path, port, launchers=torchrun(port, endpoint)) as ranks:
        ranks.kill(killed)
        seconds = seconds_to_the_end(ranks, 1 - killed)
    print(f"{seconds:.1f} s to the end")
    assert seconds < 60
    (end,) = [end for path in (run_dir.events, *run_dir.other_events()) for end in ends(path)]
    assert (end.reason, end.message.args["node"]) == ("machine_lost", machines[killed])
    assert runs.read_run(run_dir).status == "machine_lost"


def test_a_machine_suspended_for_a_moment_is_waited_for(
    machines: tuple[str, str], make_run: Callable[..., RunDir], tmp_path: Path
) -> None:
    run_dir = make_run(processes=2, **LONG)
    with training(run_dir, machines, tmp_path, PORT + 5) as ranks:
        process = ranks.processes[1]
        subprocess.run(["kill", "-STOP", str(process.pid)], check=True, timeout=30)
        began, stood = time.monotonic(), last_step(run_dir.events)
        until(lambda: time.monotonic() - began > 15)
        subprocess.run(["kill", "-CONT", str(process.pid)], check=True, timeout=30)
        until(lambda: last_step(run_dir.events) > stood + 5)
        run_dir.request_stop()
        assert ranks.codes() == [0, 0], (ranks.said(0), ranks.said(1))


def test_a_person_stops_both_machines_in_an_evaluation(
    machines: tuple[str, str], make_run: Callable[..., RunDir], tmp_path: Path
) -> None:
    """Each rank sees the stop by itself, or that the connection to the other breaks."""
    few = {**LONG, "gradient_accumulation_steps": 8}  # two steps an epoch: mostly evaluations
    run_dir = make_run(processes=2, **few)
    with training(run_dir, machines, tmp_path, PORT + 6) as ranks:
        until(lambda: any(isinstance(one.event, events.Eval) for one in EventReader(run_dir.events).poll()))
        run_dir.request_stop()
        assert ranks.codes() == [0, 0], (ranks.said(0), ranks.said(1))
    assert {end.reason for path in (run_dir.events, *run_dir.other_events()) for end in ends(path)} == {"stopped"}


# --- resumed elsewhere


@pytest.fixture(scope="module")
def uncut(launch_two: Callable[..., Result], make_run: Callable[..., RunDir]) -> Outcome:
    """A longer run of two local ranks."""
    run_dir = make_run(processes=2, gradient_accumulation_steps=4, epochs=8)
    return outcome_of(run_dir, launch_two("-m", "engine.train", str(run_dir.path)).code)


@pytest.fixture
def stopped(
    machines: tuple[str, str], make_run: Callable[..., RunDir], tmp_path: Path, request: pytest.FixtureRequest
) -> RunDir:
    """The same run, stopped on two machines."""
    run_dir = make_run(processes=2, gradient_accumulation_steps=4, epochs=8)
    port = PORT + 10 + len(request.node.name) % 50
    with training(run_dir, machines, tmp_path, port) as ranks:
        run_dir.request_stop()
        assert ranks.codes() == [0, 0], (ranks.said(0), ranks.said(1))
    assert last_step(run_dir.events) < 40
    run_dir.clear_requests()
    return run_dir


def resuming(run_dir: RunDir, **changed: Any) -> RunDir:
    run_dir.write_record(dataclasses.replace(run_dir.read_record(), resume=True, **changed))
    return run_dir


def test_a_run_resumes_with_its_machines_swapped_to_the_same_bits(
    machines: tuple[str, str], stopped: RunDir, uncut: Outcome, tmp_path: Path
) -> None:
    with training(resuming(stopped), machines, tmp_path, PORT + 8, first=1) as ranks:
        assert ranks.codes() == [0, 0], (ranks.said(0), ranks.said(1))
    assert losses(outcome_of(stopped, 0)) == losses(uncut)


def test_a_run_resumes_on_one_machine_with_the_rows_of_two(stopped: RunDir, uncut: Outcome) -> None:
    done = last_step(stopped.events)
    command = [sys.executable, "-P", "-m", "engine.train", str(resuming(stopped, processes=1).path)]
    env = {**os.environ, "ACCELERATE_USE_CPU": "true"}
    subprocess.run(command, check=True, timeout=240, env=env, stdin=subprocess.DEVNULL)
    found = outcome_of(stopped, 0)
    assert [plan.effective_batch for plan in found.all(events.Plan)] == [8, 8]
    assert [step.sample_ids for step in found.all(events.Step)] == [step.sample_ids for step in uncut.all(events.Step)]
    assert losses(found)[:done] == losses(uncut)[:done]
    assert "resume_other_ranks" in found.codes(events.Notice)
