"""Ranks that meet on a store: two threads of this process, on machines with GPUs that only seem to be there."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
import torch.distributed as dist
from torch.distributed import HashStore, Store  # type: ignore[attr-defined]

from engine.contract.environment import RENDEZVOUS
from engine.contract.launch import Launch
from engine.contract.messages import InputError, Message, for_terminal
from engine.process import meeting
from engine.process.meeting import Hello, Meeting, exchanged, meet, own_device, require_fit, require_one_run
from tests.processes import kill_tree

Met = Callable[..., list[Meeting | Message]]
ON_CPU = {"ACCELERATE_USE_CPU": "true"}


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes a number of GPUs seem to be visible."""

    def visible(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(meeting, "_uuid", lambda device: f"GPU-{device.index}")

    visible(2)
    return visible


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The groups that are made: backend, GPU, rank, size and limit for making it."""
    made: list[tuple[Any, ...]] = []

    def init(backend: str, *, device_id: Any = None, store: Any, rank: int, world_size: int, timeout: Any) -> None:
        store.set("made", "")
        made.append((backend, device_id, rank, world_size, timeout))

    monkeypatch.setattr(dist, "init_process_group", init)
    monkeypatch.setattr(dist, "barrier", lambda: None)
    monkeypatch.setattr(meeting, "_set_pg_timeout", lambda _limit: None)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: made.append(("set", device)))
    return made


@pytest.fixture
def met(monkeypatch: pytest.MonkeyPatch, groups: list[Any]) -> Met:  # noqa: ARG001
    """Lets ranks with these variables meet; gives what each found, or why it was refused."""
    store = HashStore()
    monkeypatch.setattr(meeting, "_store", lambda _given, _mine: store)

    def all_meet(
        *ranks: dict[str, str], size: int = 2, runs: Sequence[str] = ("", ""), **how: Any
    ) -> list[Meeting | Message]:
        def one(number: int) -> Meeting | Message:
            place = {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": str(size)}
            try:
                return meet({**place, **ranks[number]}, run=runs[number], folder=f"/on{number}", **how)
            except InputError as error:
                return error.message

        with ThreadPoolExecutor() as pool:
            return list(pool.map(one, range(len(ranks))))

    return all_meet


def refusals(found: list[Meeting | Message]) -> list[Message]:
    return [one for one in found if isinstance(one, Message)]


@pytest.mark.usefixtures("gpus")
def test_ranks_with_a_gpu_each_know_each_other(met: Met, groups: list[tuple[Any, ...]]) -> None:
    found = met({}, {}, launch=Launch("slurm", 1, 2))
    seen = [[hello.gpu for hello in one.hellos] for one in found if isinstance(one, Meeting)]
    assert seen == [["GPU-0", "GPU-1"]] * 2
    made = sorted((group for group in groups if group[0] == "nccl"), key=lambda group: group[2])
    devices = [torch.device("cuda", 0), torch.device("cuda", 1)]
    assert [group[1:] for group in made] == [(devices[rank], rank, 2, meeting.COLLECTIVE_LIMIT) for rank in (0, 1)]
    assert {group[1] for group in groups if group[0] == "set"} == set(devices)


def test_ranks_on_the_cpu_make_a_group_without_gpus(met: Met, groups: list[tuple[Any, ...]]) -> None:
    assert not refusals(met(ON_CPU, ON_CPU))
    made = sorted(groups, key=lambda group: group[2])
    assert made == [("gloo", None, rank, 2, meeting.CONNECT_LIMIT) for rank in (0, 1)]


def test_who_cannot_connect_to_another_is_named_by_all(met: Met, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 0, which could, learns of it when the others leave."""

    def init(_backend: str, *, rank: int, **_how: object) -> None:
        if rank:
            raise RuntimeError(f"Gloo connectFullMesh failed with\x1b[31m Connect timeout of rank {rank}")

    def left() -> None:
        raise RuntimeError("Connection closed by peer")

    all_have_said, waited = threading.Barrier(3), set[int]()

    def moment(_seconds: float) -> None:
        if (rank := threading.get_ident()) not in waited:
            waited.add(rank)
            all_have_said.wait(60)

    monkeypatch.setattr(meeting, "time", SimpleNamespace(monotonic=time.monotonic, sleep=moment))
    monkeypatch.setattr(dist, "init_process_group", init)
    monkeypatch.setattr(dist, "barrier", left)
    refused = refusals(met(ON_CPU, ON_CPU, ON_CPU, size=3, runs=("", "", "")))
    assert [one.code for one in refused] == ["meeting_apart"] * 3
    assert [one.args["numbers"] for one in refused] == ["1, 2"] * 3
    said = [for_terminal(one) for one in refused]
    assert all("Connect timeout of rank 1" in one and "\x1b" not in one for one in said)


@pytest.mark.parametrize("wrong", [0, 1])
def test_a_rank_whose_interface_does_not_exist_is_named_by_all(
    met: Met, monkeypatch: pytest.MonkeyPatch, wrong: int
) -> None:
    """The others find no address of it, or get no connection."""
    missed = ["wait timeout after 30000ms, keys: /0//cpu//0/1", "Gloo connectFullMesh failed with Connect timeout"]

    def init(_backend: str, *, rank: int, **_how: object) -> None:
        raise RuntimeError("Unable to find address for: eth9" if rank == wrong else missed[rank])

    monkeypatch.setattr(meeting, "LEAVE_SECONDS", 1.0)
    monkeypatch.setattr(dist, "init_process_group", init)
    refused = refusals(met(ON_CPU, ON_CPU))
    assert [(one.code, one.args["numbers"]) for one in refused] == [("meeting_unopened", str(wrong))] * 2
    assert all("address for: eth9" in one.what() and "GLOO_SOCKET_IFNAME" in one.fix() for one in refused)


def test_a_store_that_goes_while_ranks_connect_is_a_refusal(met: Met, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(*_given: object, **_how: object) -> None:
        raise dist.DistNetworkError("failed to recv, got 0 bytes")

    monkeypatch.setattr(dist, "init_process_group", init)
    assert [one.code for one in refusals(met(ON_CPU, ON_CPU))] == ["meeting_failed"] * 2


def test_a_rank_that_died_is_no_matter_of_connections(met: Met, monkeypatch: pytest.MonkeyPatch) -> None:
    def left() -> None:
        raise RuntimeError("Connection closed by peer")

    monkeypatch.setattr(meeting, "LEAVE_SECONDS", 0.2)
    monkeypatch.setattr(dist, "barrier", left)
    with pytest.raises(RuntimeError, match="closed by peer"):
        met(ON_CPU, ON_CPU)


def test_two_ranks_that_have_met_wait_for_each_other_for_hours(tmp_path: Path) -> None:
    """What limits the making of their group does not limit what they do in it."""
    program = """
import os, sys, torch.distributed as dist
from datetime import timedelta
from engine.process import meeting
found = meeting.meet(os.environ)
print((dist.group.WORLD._get_backend(meeting.torch.device("cpu")).options._timeout == meeting.COLLECTIVE_LIMIT))
"""
    meets = f"file://{tmp_path}/met?rank={{}}&world_size=2"
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env={**os.environ, **ON_CPU, "RANK": str(rank), "WORLD_SIZE": "2", RENDEZVOUS: meets.format(rank)},
            stdout=subprocess.PIPE,
        )
        for rank in (0, 1)
    ]
    try:
        assert [rank.communicate(timeout=120)[0] for rank in ranks] == [b"True\n"] * 2
    finally:
        for rank in ranks:
            kill_tree(rank)


def test_two_ranks_on_one_gpu_are_refused_by_its_uuid(
    met: Met, gpus: Callable[[int], None], groups: list[tuple[Any, ...]]
) -> None:
    """As with two processes on a machine of one GPU: the number of the second wraps around."""
    gpus(1)
    found = met({}, {})
    assert [(one.code, one.args["first"], one.args["second"]) for one in refusals(found)] == [("gpu_twice", 0, 1)] * 2
    assert groups == []


def test_each_rank_may_see_a_single_gpu_of_its_own(
    met: Met, gpus: Callable[[int], None], groups: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slurm's --gpus-per-task=1: both compute on what they see as the first GPU."""
    gpus(1)
    uuids = iter(["GPU-a", "GPU-b"])
    monkeypatch.setattr(meeting, "_uuid", lambda _device: next(uuids))
    assert not refusals(met({}, {}))
    assert [group[1] for group in groups if group[0] == "nccl"] == [torch.device("cuda", 0)] * 2


@pytest.mark.usefixtures("gpus")
def test_a_rank_without_a_gpu_among_others_is_refused_by_all(met: Met, groups: list[tuple[Any, ...]]) -> None:
    why = [(one.code, one.args["numbers"], one.args["count"]) for one in refusals(met({}, ON_CPU))]
    assert why == [("gpus_mixed", "1", 1)] * 2
    assert groups == []


def hello(rank: int, device: str = "cuda", node: str = "ash", gpu: str = "", *, asked: bool = False) -> Hello:
    return Hello(rank, node, node, device, gpu, asked)


def test_a_run_prepared_for_gpus_does_not_train_without_them() -> None:
    with pytest.raises(InputError, match="prepared for 2 GPUs on each machine") as refused:
        require_fit([hello(0), hello(1), hello(2, "cpu", "oak"), hello(3, "cpu", "oak")], 2)
    assert (refused.value.message.args["numbers"], refused.value.message.args["nodes"]) == ("2, 3", "oak")
    assert "nvidia-smi` on oak" in refused.value.message.fix()
    require_fit([hello(0, "cpu", asked=True), hello(1, "cpu", asked=True)], 2)  # the user asked for the CPU
    require_fit([hello(0, "cpu"), hello(1, "cpu")], 0)


def test_the_same_gpu_on_two_machines_is_none(gpus: Callable[[int], None]) -> None:
    """Stand-ins may have one UUID; NCCL compares within a machine too."""
    require_fit([hello(0, gpu="GPU-0"), hello(1, node="oak", gpu="GPU-0"), hello(2), hello(3)], 1)
    gpus(1)
    assert own_device({"LOCAL_RANK": "3"}) == own_device({}) == torch.device("cuda", 0)


def test_many_ranks_without_a_gpu_are_not_all_named() -> None:
    with pytest.raises(InputError) as refused:
        require_fit([hello(rank, "cpu", f"node{rank}") for rank in range(100)], 1)
    assert str(refused.value.message.args["nodes"]).endswith("node15, …")


def test_a_rank_that_does_not_come_is_named(met: Met, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "MEETING_LIMIT", timedelta(seconds=0.3))
    (message,) = refusals(met(ON_CPU, size=3))
    assert (message.code, message.args["absent"], message.args["ranks"]) == ("meeting_incomplete", "1, 2", 3)


def test_what_else_answers_at_the_port_is_no_rank(met: Met, monkeypatch: pytest.MonkeyPatch) -> None:
    store = HashStore()
    store.set("sft-tui-0/hello-1", '{"rank": -5}')
    monkeypatch.setattr(meeting, "_store", lambda _given, _mine: store)
    (message,) = refusals(met(ON_CPU))
    assert message.code == "meeting_failed"


@pytest.mark.parametrize(("runs", "blind"), [(("a", "b"), 1), (("a", ""), 1), (("", "b"), 0)])
def test_machines_that_find_another_run_or_none_are_named_at_once(
    met: Met, groups: list[tuple[Any, ...]], runs: tuple[str, str], blind: int
) -> None:
    found = refusals(met(ON_CPU, ON_CPU, runs=runs))
    assert [one.code for one in found] == ["folder_not_shared"] * 2
    assert {one.args["path"] for one in found} == {f"/on{1 - blind}"}
    assert groups == []


def test_the_machine_that_finds_no_run_is_in_the_sentence() -> None:
    with pytest.raises(InputError, match="but /here, as ash sees it, is not the one that oak sees"):
        require_one_run([Hello(0, "ash", run="a", folder="/here"), Hello(1, "oak", folder="/there")])


def test_ranks_that_all_find_one_run_or_none_go_on() -> None:
    require_one_run([Hello(0, "ash", run="a"), Hello(1, "oak", run="a")])
    require_one_run([Hello(0, "ash"), Hello(1, "oak")])  # their job says what is missing


class Broken:
    """A store whose server is gone from some call on."""

    def __init__(self, last: str) -> None:
        self._last = last

    def _gone(self, call: str) -> None:
        if call == self._last:
            raise dist.DistNetworkError("Broken pipe")

    def set(self, _name: str, _value: str) -> None:
        self._gone("set")

    def wait(self, _names: list[str], _limit: timedelta) -> None:
        self._gone("wait")
        raise dist.DistStoreError("wait timeout")

    def check(self, _names: list[str]) -> bool:
        self._gone("check")
        return False


@pytest.mark.parametrize("last", ["set", "wait", "check"])
def test_a_store_that_is_gone_is_a_refusal_with_advice(last: str) -> None:
    with pytest.raises(InputError, match="Broken pipe") as refused:
        exchanged(cast(Store, Broken(last)), Hello(1, "oak"), 2)
    assert refused.value.message.code == "meeting_failed"


def test_a_port_in_use_is_reported_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("", 0)) as taken:
        port = str(taken.getsockname()[1])
        place = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        for name, value in place.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(InputError, match=f"Port {port} of .* in use by another program") as refused:
            meet({**place, **ON_CPU})
    assert "MASTER_PORT" in refused.value.message.fix()


def test_an_address_that_is_unknown_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_where: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(meeting, "NAME_SECONDS", 0.0)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(InputError, match="cannot resolve gpu03, where the processes meet: Name or service"):
        meet({"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "gpu03", "MASTER_PORT": "1", **ON_CPU})


@pytest.mark.parametrize(
    "given", [{}, {"RANK": "0"}, {"RANK": "1", "WORLD_SIZE": "2", "SFT_TUI_RENDEZVOUS": "file:///x"}]
)
def test_one_process_and_those_of_a_supervisor_on_the_cpu_need_no_store(
    given: dict[str, str], groups: list[tuple[Any, ...]]
) -> None:
    assert meet({**given, **ON_CPU}).store is None
    assert groups == []


def test_one_process_without_the_gpu_it_was_prepared_for_is_refused(gpus: Callable[[int], None]) -> None:
    gpus(0)
    with pytest.raises(InputError, match="prepared for 1 GPU on each machine"):
        meet({}, Launch("slurm", 1, 1))
    assert len(meet(ON_CPU, Launch("slurm", 1, 1), asked=True).hellos) == 1
