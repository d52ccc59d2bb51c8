"""The readings of a run that no supervisor watches."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from engine.contract import environment, events
from engine.contract.machine import host
from engine.contract.messages import Message
from engine.contract.rundir import RunDir
from engine.contract.stream import EventReader, EventWriter
from engine.process import readings
from engine.process.job import Job
from engine.process.readings import watched
from tests.processes import LIMIT, until

if TYPE_CHECKING:
    from tests.engine.conftest import Runner

DONE = Message("model_new", {"seed": 1})
Work = Callable[[Job], Message]


@pytest.fixture(autouse=True)
def _all_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is killed is waited for, however slow the machine, since nothing may be left."""
    monkeypatch.setattr(host, "CLOSE_SECONDS", LIMIT)


def until_read(job: Job) -> Message:
    """Work that ends when its machine was read once."""
    until(lambda: any(isinstance(one.event, events.Host) for one in EventReader(job.run_dir.events).poll()))
    return DONE


def test_a_launched_run_has_the_readings_of_its_machine(run_here: "Runner") -> None:
    before = set(psutil.Process().children())
    run = run_here(work=watched(until_read))
    found = run.all(events.Host)
    assert (run.code, found[0].ranks, found[0].node) == (0, [0], "")
    assert found[0].rank_memory[0] > 1_000_000
    assert set(psutil.Process().children()) <= before


def test_a_run_whose_work_fails_leaves_nothing_that_reads(run_here: "Runner") -> None:
    def fail(_job: Job) -> Message:
        raise ValueError("wrong")

    before = set(psutil.Process().children())
    assert run_here(work=watched(fail)).ended.reason == "failed"
    assert set(psutil.Process().children()) <= before


def test_a_supervised_run_is_read_by_its_supervisor(run_here: "Runner", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(environment.SUPERVISOR, str(os.getppid()))
    monkeypatch.setattr(readings, "Monitor", None)
    assert run_here(work=watched(lambda _job: DONE)).code == 0


def attempt(folder: Path, rank: int, machines: list[tuple[str, str]], of_ranks: list[int]) -> Any:
    """An attempt of ranks on these machines, as one of them sees it; each has the pid of this process."""
    number = of_ranks[rank]
    world = SimpleNamespace(
        rank=rank,
        is_main=rank == 0,
        machines=machines,
        machine=number,
        is_local_main=of_ranks.index(number) == rank,
        gather=lambda _mine: [(machine, os.getpid()) for machine in of_ranks],
    )
    run_dir = RunDir(folder)
    log = EventWriter(run_dir.events, f"rank{rank}", 4)
    return SimpleNamespace(world=world, run_dir=run_dir, log=log, output=SimpleNamespace(path=folder))


def readings_of(path: Path) -> list[Any]:
    return [one for one in EventReader(path).poll() if isinstance(one.event, events.Host)] if path.exists() else []


def until_read_into(path: Path, _job: Job) -> Message:
    until(lambda: bool(readings_of(path)))
    return DONE


def test_one_rank_of_each_machine_reads_it_into_its_own_stream(tmp_path: Path) -> None:
    machines, of_ranks = [("first", "a"), ("second", "b")], [0, 1, 0, 1]
    streams = {0: tmp_path / "events.jsonl", 1: RunDir(tmp_path).events_of(1)}
    for rank in range(4):
        path = streams.get(rank)
        work: Work = partial(until_read_into, path) if path else lambda _job: DONE
        watched(work)(attempt(tmp_path, rank, machines, of_ranks))
    for number, path in streams.items():
        record = readings_of(path)[0]
        assert (record.event.machine, record.event.node) == (number, machines[number][0])
        assert record.event.ranks == [number, number + 2]
        assert (record.envelope.src, record.envelope.attempt) == (f"monitor{number or ''}", 4)
    assert not readings_of(RunDir(tmp_path).events_of(2)) + readings_of(RunDir(tmp_path).events_of(3))


def test_machines_of_one_name_have_numbers(tmp_path: Path) -> None:
    alike = attempt(tmp_path, 1, [("node", "a"), ("node", "b"), ("other", "c")], [0, 1, 2])
    assert readings.name_of(alike.world) == "node (1)"
    assert readings.name_of(attempt(tmp_path, 2, alike.world.machines, [0, 1, 2]).world) == "other"
