"""Two or three ranks of one run in this process, which watch each other over a store as those of machines do."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch.distributed import DistStoreError, PrefixStore, TCPStore  # type: ignore[attr-defined]

from engine.contract.events import RankFailed, RunEnded
from engine.contract.rundir import RunDir
from engine.contract.stream import EventReader, EventWriter
from engine.process import peers
from engine.process.heartbeat import RankStatus
from engine.process.peers import GONE, PeerWatch, Signs, Silence
from tests.processes import until

LIMIT = 30.0  # seconds
NODES = ["ash", "oak", "elm"]


# --- what counts as silence


def test_a_rank_is_silent_if_its_counter_stands_still() -> None:
    signs = Signs([1, 2], 0.0)
    for now in range(1, 60):
        signs.read(1, str(now), float(now))
        signs.read(2, "7", float(now))
        assert signs.silent(float(now), 40.0) == (Silence(2, now - 1.0) if now > 41 else None)


def test_a_rank_that_is_heard_again_is_not_silent() -> None:
    signs = Signs([1], 0.0)
    assert signs.silent(9.0, 8.0) == Silence(1, 9.0)
    signs.read(1, "1", 9.5)
    assert signs.silent(10.0, 8.0) is None


def test_a_rank_that_ended_in_order_is_not_missed() -> None:
    signs = Signs([1], 0.0)
    signs.read(1, GONE, 1.0)
    assert [signs.silent(float(now), 8.0) for now in range(2, 60, 5)] == [None] * 12


def test_a_process_that_was_suspended_blames_nobody() -> None:
    signs = Signs([1], 0.0)
    assert signs.silent(1.0, 40.0) is None
    assert signs.silent(3600.0, 40.0) is None  # it did not look for an hour
    looks = [signs.silent(3600.0 + second, 40.0) for second in range(1, 42)]
    assert looks == [None] * 40 + [Silence(1, 41.0)]


# --- on a store


class Rank(SimpleNamespace):
    """A watch of one rank, and what it wrote."""

    def ends(self) -> list[RunEnded]:
        """The ends in its stream."""
        return [r.event for r in EventReader(self.path).poll() if isinstance(r.event, RunEnded)]


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The exit codes of processes that would have ended; everything is as quick as it can be."""
    quick = {"BEAT_SECONDS": 0.05, "LOOK_SECONDS": 0.02, "SILENT_SECONDS": 1.0, "BROKEN_SECONDS": 0.5}
    for name, seconds in {**quick, "CAUSE_SECONDS": 5.0, "SPREAD_SECONDS": 0.3}.items():
        monkeypatch.setattr(peers, name, seconds)
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    return codes


@pytest.fixture
def ranks(make_run: Callable[..., RunDir], left: list[int]) -> Iterator[Callable[[int], list[Rank]]]:
    """Starts the watches of a number of ranks, each on a machine of its own."""
    del left  # with its short times
    begun: list[Rank] = []

    def start(size: int) -> list[Rank]:
        run_dir = make_run(processes=size)
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        for number in range(size):
            world: Any = SimpleNamespace(
                rank=number, size=size, is_main=not number, nodes=NODES[:size], rank_status=RankStatus()
            )
            path = run_dir.events if not number else run_dir.events_of(number)
            log = EventWriter(path, f"rank{number}", 1)
            own = TCPStore("127.0.0.1", store.port, is_master=False, wait_for_workers=False)
            watch = PeerWatch(world, run_dir, log, PrefixStore("x", own))
            watch.announce()
            begun.append(Rank(path=path, watch=watch, world=world, log=log, server=store))
        for one in begun:
            one.watch.start()
        return begun

    yield start
    for one in begun:
        one.watch.stop(in_order=False)
        one.log.close()


def failure(rank: int, *, waiting: bool, why: str = "RuntimeError: connection closed by peer") -> RankFailed:
    return RankFailed("failed", "training", 7, why, "trace", waiting, rank=rank, node=NODES[rank])


Start = Callable[[int], list[Rank]]


def test_a_machine_that_falls_silent_ends_the_run_by_name(ranks: Start, left: list[int]) -> None:
    first, second = ranks(2)
    first.world.rank_status.phase = "training"
    second.watch.stop(in_order=False)
    until(lambda: left == [1], LIMIT)
    (end,) = first.ends()
    assert (end.reason, end.exit_code, end.message.code) == ("machine_lost", 1, "ended_silent_machine")
    assert "Rank 1 on oak gave no sign of life" in end.message.what()
    assert "the network to ash failed" in end.message.what()


def test_the_others_certify_that_the_first_rank_is_silent(ranks: Start, left: list[int]) -> None:
    first, second = ranks(2)
    first.watch.stop(in_order=False)
    until(lambda: left == [1], LIMIT)
    (end,) = second.ends()
    assert (end.reason, end.message.args["rank"], end.message.args["node"]) == ("machine_lost", 0, "ash")


def test_ranks_that_live_are_left_alone_however_long_they_compute(
    ranks: Start, left: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "SILENT_SECONDS", 3.0)  # a busy machine may let no thread run for a second
    watched = ranks(2)
    began = time.monotonic()
    until(lambda: time.monotonic() - began > peers.SILENT_SECONDS + 1, LIMIT)
    assert left == []
    assert [one.ends() for one in watched] == [[], []]


def test_a_rank_counts_on_after_a_pause_of_the_network(
    ranks: Start, left: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "SILENT_SECONDS", 60.0)
    _, second = ranks(2)
    exchange, late = second.watch._exchange, [DistStoreError("wait timeout after 30000ms")]

    def paused(sending: dict[str, str]) -> None:
        if late:
            raise late.pop()
        exchange(sending)

    monkeypatch.setattr(second.watch, "_exchange", paused)
    until(lambda: not late, LIMIT)
    count = second.watch._count
    until(lambda: second.watch._count > count + 3, LIMIT)
    assert left == []


def test_a_rank_that_ends_in_order_does_not_end_the_others(ranks: Start, left: list[int]) -> None:
    first, second = ranks(2)
    second.watch.stop(in_order=True)
    began = time.monotonic()
    until(lambda: time.monotonic() - began > 2 * peers.SILENT_SECONDS, LIMIT)
    assert (left, first.ends()) == ([], [])


def test_a_checkpoint_that_is_being_written_is_completed(ranks: Start, left: list[int]) -> None:
    first, second = ranks(2)
    first.world.rank_status.phase = "saving"
    second.watch.stop(in_order=False)
    began = time.monotonic()
    until(lambda: time.monotonic() - began > 2 * peers.SILENT_SECONDS, LIMIT)
    assert (left, first.ends()) == ([], [])
    with first.world.rank_status.waiting_for_others():
        until(lambda: left == [1], LIMIT)
    assert [end.reason for end in first.ends()] == ["machine_lost"]


def test_a_broken_connection_names_the_silent_rank(ranks: Start) -> None:
    first, _, third = ranks(3)
    third.watch.stop(in_order=False)
    assert first.watch.certify(failure(0, waiting=True))
    (end,) = first.ends()
    assert (end.message.args["rank"], end.message.args["node"]) == (2, "elm")
    assert end.evidence["why"] == "RuntimeError: connection closed by peer"


def test_a_rank_leaves_the_certificate_to_the_first(ranks: Start) -> None:
    """It writes none itself; what the first rank found reaches it."""
    first, second, third = ranks(3)
    third.watch.stop(in_order=False)
    assert first.watch.certify(failure(0, waiting=True))
    assert second.watch.certify(failure(1, waiting=True))
    assert (len(first.ends()), second.ends()) == (1, [])


def test_the_error_of_another_rank_is_the_end_of_the_run(ranks: Start) -> None:
    first, second = ranks(2)
    second.watch.report(failure(1, waiting=False, why="OSError: no such file"))
    second.watch.stop(in_order=False)
    assert first.watch.certify(failure(0, waiting=True))
    (end,) = first.ends()
    assert (end.reason, end.message.args["rank"], end.message.args["why"]) == ("failed", 1, "OSError: no such file")


def test_without_a_cause_the_error_itself_is_reported(ranks: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "CAUSE_SECONDS", 0.2)
    first, _ = ranks(2)
    assert not first.watch.certify(failure(0, waiting=True))
    assert first.ends() == []


@pytest.mark.parametrize("said", ["x", "[]", "[99, 1]", '["0", 1]', "null", "[1, NaN]", "[1, 1e999]", "[" * 100_000])
def test_anything_on_the_store_is_survived(
    ranks: Start, left: list[int], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any program that reaches its port can write there."""
    monkeypatch.setattr(peers, "SILENT_SECONDS", 60.0)
    first, second = ranks(2)
    store = PrefixStore("x", first.server)
    for name in (peers.SILENT, peers.FAILED):
        store.set(name, said)
    count = second.watch._count
    until(lambda: second.watch._count > count + 3, LIMIT)
    assert left == []
    assert second.watch._found is None


def test_one_machine_has_nothing_to_watch(cpu_world: Any, tmp_path: Path) -> None:
    log = EventWriter(tmp_path / "events.jsonl", "rank0", 1)
    assert PeerWatch.of(cpu_world, RunDir(tmp_path), log) is None
    log.close()
