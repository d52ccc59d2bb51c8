"""Two or three ranks of one run in this process, which watch each other over a store as those of machines do."""

import os
import threading
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
from engine.process import connections, peers, signs
from engine.process.heartbeat import RankStatus
from engine.process.peers import PeerWatch
from engine.process.signs import LEAST_SECONDS, longest_exchange
from tests.engine.process.timers import Timers
from tests.processes import until

LIMIT = 120.0  # seconds
UNHEARD, DEAD = 100.0, 1000.0  # seconds of silence, after which a rank is missed if a connection broke, and in any case
NODES = ["ash", "oak", "elm"]


# --- on a store


class Rank(SimpleNamespace):
    """A watch of one rank, and what it wrote."""

    def ends(self) -> list[RunEnded]:
        """The ends in its stream."""
        return [r.event for r in EventReader(self.path).poll() if isinstance(r.event, RunEnded)]

    def fall_silent(self) -> None:
        """Gives no sign from here on."""
        self.watch.stop(in_order=False)
        self.watch._beating.join(LIMIT)

    def be_missed(self, seconds: float) -> None:
        """Has been silent for so long, as those find who watch it, and have read its last sign."""
        rank = self.world.rank
        last = PrefixStore("x", self.server).get(str(rank)).decode()
        for one in self.all_ranks:
            known = one.watch._signs
            if one.watch._over.is_set() or rank not in known._signs:
                continue
            until(lambda known=known: known._signs[rank] == last, LIMIT)  # type: ignore[misc]
            with known._one_at_a_time:
                known._at[rank] -= seconds

    def die(self, seconds: float = 0.0) -> None:
        """Is gone, so long ago."""
        self.fall_silent()
        self.be_missed(seconds)


@pytest.fixture
def timers(monkeypatch: pytest.MonkeyPatch) -> Timers:
    """Those by which a process would end in time: a real one would print its last words during another test."""
    found = Timers()
    monkeypatch.setattr(threading, "Timer", found)
    return found


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch, timers: Timers) -> list[int]:
    """The exit codes of processes that would have ended.

    All is as quick as it can be, but for limits: no rank is missed because this machine is busy, but one that is dead.
    """
    quick = {"BEAT_SECONDS": 0.05, "LOOK_SECONDS": 0.02, "SPREAD_SECONDS": 0.1}
    long = {"SILENT_SECONDS": 500.0, "BROKEN_SECONDS": 50.0, "CAUSE_SECONDS": LIMIT, "SEND_SECONDS": LIMIT}
    for name, seconds in {**quick, **long}.items():
        monkeypatch.setattr(peers, name, seconds)
    monkeypatch.setattr(signs, "PAUSE_SECONDS", 500.0)
    del timers  # in their place
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
                rank=number,
                size=size,
                is_main=not number,
                nodes=NODES[:size],
                rank_status=RankStatus(),
                exchange_failed=lambda: False,
            )
            path = run_dir.events if not number else run_dir.events_of(number)
            log = EventWriter(path, f"rank{number}", 1)
            own = TCPStore("127.0.0.1", store.port, is_master=False, wait_for_workers=False)
            watch = PeerWatch(world, run_dir, log, PrefixStore("x", own))
            watch.announce()
            begun.append(Rank(path=path, watch=watch, world=world, log=log, server=store, all_ranks=begun))
        for one in begun:
            one.watch.start()
        return begun

    yield start
    for one in begun:
        one.fall_silent()
        one.log.close()


def failure(rank: int, *, waiting: bool, why: str = "RuntimeError: connection closed by peer") -> RankFailed:
    return RankFailed("failed", "training", 7, why, "trace", waiting, rank=rank, node=NODES[rank])


Start = Callable[[int], list[Rank]]


def test_a_machine_that_falls_silent_ends_the_run_by_name(ranks: Start, left: list[int]) -> None:
    first, second = ranks(2)
    first.world.rank_status.phase = "training"
    second.die(DEAD)
    until(lambda: left == [1], LIMIT)
    (end,) = first.ends()
    assert (end.reason, end.exit_code, end.message.code) == ("machine_lost", 1, "ended_silent_machine")
    assert "Rank 1 on oak gave no sign of life" in end.message.what()
    assert "the network to ash failed" in end.message.what()


def test_the_others_certify_that_the_first_rank_is_silent(ranks: Start, left: list[int]) -> None:
    first, second = ranks(2)
    first.die(DEAD)
    until(lambda: left == [1], LIMIT)
    (end,) = second.ends()
    assert (end.reason, end.message.args["rank"], end.message.args["node"]) == ("machine_lost", 0, "ash")


def test_ranks_that_live_are_left_alone_however_long_they_compute(ranks: Start, left: list[int]) -> None:
    watched = ranks(2)
    for _ in range(4):  # each time almost half of what would be too long, and together almost twice that
        for one in watched:
            (rank,), known = one.watch._watched, one.watch._signs
            with known._one_at_a_time:
                known._at[rank] -= 0.45 * peers.SILENT_SECONDS
                at = known._at[rank]
            until(lambda known=known, rank=rank, at=at: known._at[rank] > at, LIMIT)  # type: ignore[misc]
    assert left == []
    assert [one.ends() for one in watched] == [[], []]


def test_a_rank_counts_on_after_a_pause_of_the_network(
    ranks: Start, left: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
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
    until(lambda: first.watch._signs._signs[1] == signs.GONE, LIMIT)
    assert first.watch._lost(limit=0.0) is None
    assert (left, first.ends()) == ([], [])


def test_an_end_in_order_is_said_though_another_word_is_on_its_way(
    ranks: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store, or the network to it, is slow: it still takes what this rank reported before."""
    _, second = ranks(2)
    exchange, begun, held = second.watch._exchange, threading.Event(), threading.Event()

    def slow(sending: dict[str, str]) -> None:
        began = begun.is_set()
        begun.set()
        held.wait(LIMIT)
        if not began or not second.watch._over.wait(0.3):  # in which this process might have ended
            exchange(sending)

    second.watch.report(stopped(1))
    monkeypatch.setattr(second.watch, "_exchange", slow)
    until(begun.is_set, LIMIT)
    ending = threading.Thread(target=second.watch.stop, kwargs={"in_order": True})
    ending.start()
    until(lambda: "1" in second.watch._outbox, LIMIT)
    held.set()
    ending.join(LIMIT)
    assert PrefixStore("x", second.server).get("1").decode() == signs.GONE


def test_a_checkpoint_that_is_being_written_is_completed(ranks: Start, left: list[int]) -> None:
    first, second = ranks(2)
    first.world.rank_status.phase = "saving"
    second.die(DEAD)
    until(first.watch._ending.locked, LIMIT)
    began = time.monotonic()
    until(lambda: time.monotonic() - began > 10 * peers.LOOK_SECONDS, LIMIT)
    assert (left, first.ends()) == ([], [])
    with first.world.rank_status.waiting_for_others():
        until(lambda: left == [1], LIMIT)
    assert [end.reason for end in first.ends()] == ["machine_lost"]


def test_a_broken_connection_names_the_silent_rank(ranks: Start) -> None:
    first, _, third = ranks(3)
    third.die(UNHEARD)
    assert first.watch.certify(failure(0, waiting=True))
    (end,) = first.ends()
    assert (end.message.args["rank"], end.message.args["node"]) == (2, "elm")
    assert end.evidence["why"] == "RuntimeError: connection closed by peer"


def test_a_rank_leaves_the_certificate_to_the_first(ranks: Start) -> None:
    """It writes none itself; what the first rank found reaches it."""
    first, second, third = ranks(3)
    third.die(UNHEARD)
    assert first.watch.certify(failure(0, waiting=True))
    assert second.watch.certify(failure(1, waiting=True))
    assert (len(first.ends()), second.ends()) == (1, [])


def test_the_error_of_another_rank_is_the_end_of_the_run(ranks: Start) -> None:
    first, second = ranks(2)
    second.watch.report(failure(1, waiting=False, why="OSError: no such file"))
    second.die()
    assert first.watch.certify(failure(0, waiting=True))
    (end,) = first.ends()
    assert (end.reason, end.message.args["rank"], end.message.args["why"]) == ("failed", 1, "OSError: no such file")


def test_without_a_cause_the_error_itself_is_reported(ranks: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "CAUSE_SECONDS", 0.2)
    first, _ = ranks(2)
    assert not first.watch.certify(failure(0, waiting=True))
    assert first.ends() == []


def stopped(rank: int) -> RankFailed:
    why = "Stopped while generating, as asked; there was nothing to save yet."
    return RankFailed(peers.STOPPED, "generating", 7, why, "trace", waiting=False, rank=rank, node=NODES[rank])


@pytest.mark.parametrize("gone", [0, 1])
def test_a_stop_by_a_launcher_that_missed_a_machine_is_its_loss(ranks: Start, gone: int) -> None:
    """torchrun with --rdzv-backend=c10d signals its ranks when the machine of the endpoint is gone."""
    watched = ranks(2)
    dead, alive = watched[gone], watched[1 - gone]
    dead.die(UNHEARD)
    assert alive.watch.stopped(stopped(1 - gone), time.monotonic())
    (end,) = alive.ends()
    assert (end.reason, end.message.args["node"]) == ("machine_lost", NODES[gone])


def test_a_sign_asked_for_before_a_stop_proves_no_life_after_it(ranks: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer came late, and the last sign of a machine that is gone came after it."""
    first, second = ranks(2)
    read, held, asked = first.watch._read, threading.Event(), threading.Event()

    def late(names: list[str]) -> list[str]:
        said: list[str] = read(names)
        asked.set()
        held.wait(LIMIT)
        return said

    monkeypatch.setattr(first.watch, "_read", late)
    until(asked.is_set, LIMIT)
    count, at = second.watch._count, time.monotonic()
    until(lambda: second.watch._count > count + 1, LIMIT)
    second.fall_silent()
    held.set()
    second.be_missed(UNHEARD)
    assert first.watch.stopped(stopped(0), at)
    assert [end.reason for end in first.ends()] == ["machine_lost"]


def test_a_stop_is_believed_while_all_other_ranks_live(ranks: Start) -> None:
    first, second = ranks(2)
    assert not second.watch.stopped(stopped(1), time.monotonic())
    assert not first.watch.stopped(stopped(0), time.monotonic())
    assert (first.ends(), second.ends()) == ([], [])


def test_a_stop_is_believed_if_another_rank_was_stopped_first(ranks: Start) -> None:
    """Which has ended since, and gives no sign any more."""
    first, second = ranks(2)
    second.watch.report(stopped(1))
    second.die(UNHEARD)
    until(lambda: first.watch._reported is not None, LIMIT)
    assert not first.watch.stopped(stopped(0), time.monotonic())
    assert first.ends() == []


@pytest.mark.parametrize("size", [2, 3])
def test_ranks_that_are_all_stopped_at_once_believe_each_other(ranks: Start, size: int) -> None:
    """Each ends as soon as it may, and rank 0 does not miss it, whose report is the only one that the store keeps."""
    (first, *others), began = ranks(size), time.monotonic()
    first.watch.report(stopped(0))
    for one in others:
        assert not one.watch.stopped(stopped(one.world.rank), began)
        one.die()
    assert not first.watch.stopped(stopped(0), time.monotonic())
    assert first.ends() == []


def test_a_machine_that_is_gone_is_named_though_another_rank_stops(ranks: Start) -> None:
    """The launchers of both others miss it, and that of rank 1 first; rank 0 is the one that watches all."""
    first, second, third = ranks(3)
    third.die(UNHEARD)
    began = time.monotonic()
    second.watch.report(stopped(1))
    until(lambda: first.watch._reported is not None, LIMIT)
    assert first.watch.stopped(stopped(0), began)
    assert [end.message.args["node"] for end in first.ends()] == ["elm"]


def test_a_stop_after_the_error_of_another_rank_is_that_error(ranks: Start) -> None:
    """srun ends all ranks when one has failed."""
    first, second = ranks(2)
    second.watch.report(failure(1, waiting=False, why="OSError: no such file"))
    second.die()
    until(lambda: first.watch._reported is not None, LIMIT)
    assert first.watch.stopped(stopped(0), time.monotonic())
    assert [end.message.args["why"] for end in first.ends()] == ["OSError: no such file"]


ODD = [
    *("x", "[]", "[99, 1]", '["0", 1]', "null", "[1, NaN]", "[1, 1e999]", "[" * 60_000, "[1, " + "0" * 70_000 + "1]"),
    *('[9, "ab"]', "[9, [[0, 7]]]", "[9, [[0]]]", "[9, [5]]", '[9, [["0", "1"]]]', "[true, [[]]]"),
]


@pytest.mark.parametrize("said", ODD)
def test_anything_on_the_store_is_survived(ranks: Start, left: list[int], said: str) -> None:
    """Any program that reaches its port can write there."""
    first, second = ranks(2)
    store = PrefixStore("x", first.server)
    for name in (peers.SILENT, peers.STILL, peers.FAILED):
        store.set(name, said)
    count = second.watch._count
    until(lambda: second.watch._count > count + 3, LIMIT)
    assert left == []
    assert second.watch._found is None


# --- all wait in one exchange


def stand_still(watched: list[Rank], exchange: int = 7) -> None:
    """Has these ranks wait in one exchange."""
    for one in watched:
        one.world.rank_status.exchanges, one.world.rank_status.waiting = exchange, True


@pytest.fixture
def longest(monkeypatch: pytest.MonkeyPatch, left: list[int]) -> list[float]:
    """The seconds that an exchange may take: a moment; ranks look sooner who does not answer them."""
    del left  # with its other times
    found = [0.6]
    monkeypatch.setattr(peers, "longest_exchange", lambda _expected: found[0])
    monkeypatch.setattr(peers, "UNANSWERED_SECONDS", 0.1)
    return found


def test_a_connection_that_fails_between_two_others_ends_the_run_by_name(
    ranks: Start,
    left: list[int],
    longest: list[float],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    longest[0] = LIMIT
    monkeypatch.setattr(PeerWatch, "_others", lambda watch: {"10.0.0.9": 2 - 2 * (watch._world.rank == 2)})
    monkeypatch.setattr(connections, "unanswered", lambda: {"10.0.0.9", "10.7.7.7"})
    watched = ranks(3)
    stand_still(watched)
    first, second, third = watched
    said = first.watch._signs._signs  # with the ranks that do not answer
    until(lambda: bool(first.watch._unanswered) and all(len(one.split()) == 3 for one in said.values()), LIMIT)
    longest[0] = 0.0
    until(lambda: len(left) == 3, LIMIT)
    (end,) = first.ends()
    assert (end.reason, end.exit_code, end.message.code) == ("link_lost", 1, "ended_stood_still")
    assert "All 3 processes have waited in one exchange" in end.message.what()
    named = "These do not answer each other: rank 0 on ash and rank 2 on elm, rank 1 on oak and rank 2 on elm."
    assert named in end.message.what()
    assert "ash 上的进程 0 与 elm 上的进程 2" in end.message.what("zh")
    assert (second.ends(), third.ends()) == ([], [])  # they only print it
    assert capfd.readouterr().err.count("have waited in one exchange") == 3


@pytest.mark.usefixtures("longest")
def test_where_no_rank_knows_more_all_machines_are_named(ranks: Start, left: list[int]) -> None:
    watched = ranks(2)
    stand_still(watched)
    until(lambda: len(left) == 2, LIMIT)
    (end,) = watched[0].ends()
    assert "The connection between some of the machines is broken (ash, oak)" in end.message.what()


@pytest.mark.usefixtures("longest")
def test_a_rank_that_still_computes_is_waited_for(ranks: Start, left: list[int]) -> None:
    watched = ranks(3)
    stand_still(watched[:2])
    began = time.monotonic()
    until(lambda: time.monotonic() - began > 1.0, LIMIT)
    assert left == []


def test_a_slow_exchange_is_waited_for(ranks: Start, left: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes a minute on this network may take half an hour."""
    asked: list[float] = []
    longest = longest_exchange

    def limit(expected: float) -> float:
        asked.append(longest(expected))
        return asked[-1]

    monkeypatch.setattr(peers, "longest_exchange", limit)
    watched = ranks(2)
    watched[0].world.rank_status.longest_exchange = 60.0
    stand_still(watched)
    until(lambda: asked[-3:] == [1800.0] * 3, LIMIT)
    assert left == []
    assert longest(0.0) == LEAST_SECONDS


# --- an end in time


def test_an_end_that_cannot_be_written_is_printed_in_time(
    ranks: Start, left: list[int], timers: Timers, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The run's folder may be on the machine that is gone."""
    first, second = ranks(2)
    stuck, writing = threading.Event(), threading.Event()

    def write(_end: RunEnded) -> None:
        writing.set()
        stuck.wait(LIMIT)

    monkeypatch.setattr(first.watch, "_log", SimpleNamespace(write=write))
    monkeypatch.setattr(RunDir, "read_record", lambda _: stuck.wait(LIMIT))
    second.die(UNHEARD)
    certifying = threading.Thread(target=first.watch.certify, args=(failure(0, waiting=True),), daemon=True)
    certifying.start()
    until(writing.is_set, LIMIT)
    assert left == []
    timers.run_out()
    assert left == [1]
    assert "Rank 1 on oak gave no sign of life" in capfd.readouterr().err
    stuck.set()
    certifying.join(LIMIT)


def test_an_end_says_what_it_was_given_of_the_run(ranks: Start, make_run: Callable[..., RunDir]) -> None:
    first, second = ranks(2)
    first.watch.about(make_run(processes=2).read_record(), lambda: 41)
    second.die(DEAD)
    until(lambda: first.ends() != [], LIMIT)
    (end,) = first.ends()
    assert (end.message.args["step"], end.message.args["resume_option"]) == (41, "--resume")


def test_an_exchange_that_nccl_gave_up_names_the_silent_rank(ranks: Start, left: list[int]) -> None:
    """Its main thread waits for the GPU and would never raise an error."""
    first, second = ranks(2)
    second.die(UNHEARD)
    first.world.exchange_failed = lambda: True
    until(lambda: left == [1], LIMIT)
    (end,) = first.ends()
    assert (end.reason, end.message.args["node"]) == ("machine_lost", "oak")


def test_an_exchange_that_nccl_gave_up_without_a_cause_ends_the_rank(
    ranks: Start, left: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even while it saves: the checkpoint could hold what the exchange left."""
    monkeypatch.setattr(peers, "CAUSE_SECONDS", 0.3)
    first, _ = ranks(2)
    first.world.rank_status.phase = "saving"
    first.world.exchange_failed = lambda: True
    until(lambda: 1 in left, LIMIT)
    (end,) = first.ends()
    assert (end.reason, end.message.args["rank"]) == ("failed", 0)
    assert "NCCL" in end.message.what()


def test_one_machine_has_nothing_to_watch(cpu_world: Any, tmp_path: Path) -> None:
    log = EventWriter(tmp_path / "events.jsonl", "rank0", 1)
    assert PeerWatch.of(cpu_world, RunDir(tmp_path), log) is None
    log.close()
