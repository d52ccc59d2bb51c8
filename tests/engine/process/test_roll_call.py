"""Ranks that meet in this process, each in a thread, at a port of this machine."""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from engine.contract import environment
from engine.contract.messages import InputError
from engine.process import roll_call
from engine.process.roll_call import Awaited, Pace, _RollCall, called

LIMIT = 120.0  # seconds
KEPT: list[object] = []  # stores, until all have met, as a world does


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nobody looks seldom."""
    monkeypatch.setattr(roll_call, "LIMIT_SECONDS", LIMIT)
    monkeypatch.setattr(roll_call, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(roll_call, "SPREAD_SECONDS", 0.15)
    yield
    KEPT.clear()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank that meets nobody does not wait for long."""
    monkeypatch.setattr(roll_call, "LIMIT_SECONDS", 0.3)


@pytest.fixture
def port() -> str:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return str(server.getsockname()[1])


def place(rank: int, size: int, port: str, **more: str) -> Mapping[str, str]:
    return {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, **more}


def silent(_: Awaited) -> None:
    """A report that nobody reads."""


def met(*places: Mapping[str, str], report: Callable[[Awaited], None] = silent) -> list[BaseException | None]:
    """How the meeting of these ranks ends for each."""

    def one(given: Mapping[str, str]) -> BaseException | None:
        try:
            KEPT.append(called(given, report))
        except BaseException as error:
            error.__context__ = None  # what it keeps of the call would keep the store
            return error.with_traceback(None)
        return None

    with ThreadPoolExecutor(len(places)) as pool:
        return list(pool.map(one, places))


def test_ranks_that_have_all_come_continue(port: str) -> None:
    assert met(*(place(rank, 3, port) for rank in (0, 1, 2))) == [None] * 3


def test_a_rank_that_comes_late_is_waited_for_by_name(port: str) -> None:
    seen: list[Awaited] = []
    come = threading.Event()

    def report(awaited: Awaited) -> None:
        if awaited.missing == (2,):
            seen.append(awaited)
            come.set()

    with ThreadPoolExecutor(3) as pool:
        first = [pool.submit(met, place(rank, 3, port), report=report) for rank in (0, 1)]
        assert come.wait(LIMIT)
        last = pool.submit(met, place(2, 3, port))
        assert [one.result(LIMIT) for one in (*first, last)] == [[None]] * 3
    said = seen[0].message().text()
    assert f"Waiting for the other processes at 127.0.0.1:{port} since" in said
    assert "2 of 3 have come; missing ranks: 2." in said
    assert "缺少进程：2" in seen[0].message().text("zh")


def test_ranks_that_never_come_are_named_on_all_machines(port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 0 gives up once rank 2 has come, and its store lives until that has read so."""
    opened, late = _RollCall._opened, _RollCall._late
    come = threading.Event()

    def kept(call: _RollCall) -> TCPStore | None:
        KEPT.append(store := opened(call))
        return store

    def report(awaited: Awaited) -> None:
        if awaited.missing == (1, 3):
            come.set()

    monkeypatch.setattr(_RollCall, "_opened", kept)
    monkeypatch.setattr(
        _RollCall, "_late", lambda call, more=0.0: late(call, more) or (come.is_set() and call._rank == 0)
    )
    ends = met(place(0, 4, port), place(2, 4, port), report=report)
    for end in ends:
        assert isinstance(end, InputError)
        assert (end.message.code, end.message.args["absent"]) == ("meeting_incomplete", "1, 3")


@pytest.mark.usefixtures("soon")
def test_a_rank_0_that_never_comes_is_not_waited_for_without_end(port: str) -> None:
    (end,) = met(place(1, 2, port))
    assert isinstance(end, InputError)
    assert (end.message.code, end.message.args["why"]) == ("meeting_failed", "Connection refused")
    assert f"could not meet the others at 127.0.0.1:{port}" in end.message.what()
    assert "firewall" in end.message.fix()


def test_a_rank_0_that_ended_is_not_waited_for(port: str) -> None:
    there = threading.Event()

    def main_leaves(awaited: Awaited) -> None:
        if awaited.rank == 0 and awaited.missing == (2,):
            there.set()
            raise KeyboardInterrupt

    first, second = met(place(0, 3, port), place(1, 3, port), report=main_leaves)
    assert isinstance(first, KeyboardInterrupt)
    assert isinstance(second, InputError)
    assert second.message.code == "meeting_failed"


def test_a_port_that_is_taken_is_left_to_the_meeting() -> None:
    """It says which one."""
    with socket.create_server(("", 0)) as server:
        assert called(place(0, 2, str(server.getsockname()[1])), silent) is None


def test_a_rank_0_that_cannot_reach_itself_yet_tries_again(port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = iter([RuntimeError("The client socket has failed to connect")])

    def store(*where: Any, **how: Any) -> TCPStore:
        if how["is_master"] and (error := next(refused, None)):
            raise error
        return TCPStore(*where, **how)

    monkeypatch.setattr(roll_call, "TCPStore", store)
    assert met(*(place(rank, 2, port) for rank in (0, 1))) == [None, None]
    assert next(refused, None) is None


@pytest.mark.usefixtures("soon")
def test_a_rank_0_that_cannot_reach_itself_says_so_in_the_end(port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def store(*_where: Any, **_how: Any) -> TCPStore:
        raise RuntimeError("The client socket has failed to connect")

    monkeypatch.setattr(roll_call, "TCPStore", store)
    (end,) = met(place(0, 2, port))
    assert isinstance(end, InputError)
    assert (end.message.code, end.message.args["rank"]) == ("meeting_failed", 0)
    assert "failed to connect" in str(end.message.args["why"])


def test_torchruns_own_store_is_used(port: str) -> None:
    agent = TCPStore("127.0.0.1", int(port), is_master=True, wait_for_workers=False)
    under = {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RUN_ID": "x"}
    assert met(*(place(rank, 2, port, **under) for rank in (0, 1))) == [None, None]
    del agent


@pytest.mark.parametrize("size", ["1", "2"])
def test_ranks_of_a_supervisor_are_not_called(size: str) -> None:
    given = {"RANK": "0", "WORLD_SIZE": size, environment.SUPERVISOR: "7", "MASTER_ADDR": "x", "MASTER_PORT": "1"}
    assert called(given, silent) is None
    assert called({"WORLD_SIZE": "1"}, silent) is None


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("said", ["[", "7", "[1, 3]"])
def test_anything_on_the_store_is_survived(port: str, said: str) -> None:
    store = TCPStore("127.0.0.1", int(port), is_master=True, wait_for_workers=False)
    under = {"TORCHELASTIC_USE_AGENT_STORE": "True"}
    store.set("roll call  /late", said)
    (end,) = met(place(2, 4, port, **under))
    assert isinstance(end, InputError)
    assert end.message.code == ("meeting_incomplete" if said == "[1, 3]" else "meeting_failed")


def test_many_missing_ranks_are_a_short_list() -> None:
    named = [
        Awaited(0, 1000, "", 1, missing, 0.0).message().args["missing"] for missing in ((1, 2), tuple(range(1, 1000)))
    ]
    assert named[0] == "1, 2"
    assert len(str(named[1])) < 80


def test_who_is_missing_is_said_after_a_moment_and_when_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    pace, said = Pace(), []
    for second in range(200):
        clock[0] = float(second)
        missing = (1, 2) if second < 30 else (2,)
        if pace.due(Awaited(0, 3, "a", 1, missing, 0.0)):
            said.append(second)
    assert said == [5, 30, 90, 150]
