import socket
from types import SimpleNamespace
from typing import Any

import pytest

from engine.process import places
from engine.process.places import (
    Place,
    first_host,
    interface_outwards,
    interface_towards,
    place_in_slurm,
    rank_of,
    settle,
    tasks_per_node,
)

IN_SLURM = {
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "3",
    "SLURM_NTASKS": "5",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_TASKS_PER_NODE": "2(x2),1",
    "SLURM_JOB_NODELIST": "gpu[03-04,7]",
    "SLURM_JOB_ID": "31415",
}


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("gpu1", "gpu1"),
        ("gpu1,gpu2", "gpu1"),
        ("gpu[03-04,7],login", "gpu03"),
        ("gpu[7,9-12]", "gpu7"),
        ("rack[2-3]-n[05,06].local", "rack2-n05.local"),
        ("", ""),
    ],
)
def test_the_first_host_of_a_list_is_where_ranks_meet(nodes: str, first: str) -> None:
    assert first_host(nodes) == first


def test_tasks_are_counted_by_node() -> None:
    assert (tasks_per_node("2(x3),1"), tasks_per_node("4"), tasks_per_node("")) == ([2, 2, 2, 1], [4], [])


def test_a_task_of_slurm_finds_its_place() -> None:
    assert rank_of(IN_SLURM) == 3
    assert place_in_slurm(IN_SLURM) == Place(3, 5, local_rank=1, local_size=2, address="gpu03", port="16415")


@pytest.mark.parametrize("missing", ["SLURM_STEP_ID", "SLURM_PROCID", "SLURM_NTASKS"])
def test_what_srun_did_not_start_is_alone(missing: str) -> None:
    """A batch script has most of these variables too."""
    assert place_in_slurm({name: value for name, value in IN_SLURM.items() if name != missing}) is None


def test_a_place_of_slurm_gets_the_names_that_torch_reads() -> None:
    given: dict[str, str] = dict(IN_SLURM)
    settle(given, on_cpu=True)
    assert [given[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")] == ["3", "5", "1", "2"]
    assert (given["MASTER_ADDR"], given["MASTER_PORT"], given["ACCELERATE_USE_CPU"]) == ("gpu03", "16415", "true")


@pytest.mark.parametrize("other", [{"RANK": "0", "WORLD_SIZE": "2"}, {"SFT_TUI_SUPERVISOR": "1"}, {"MASTER_PORT": "7"}])
def test_what_another_launcher_or_a_person_has_set_stays(other: dict[str, Any]) -> None:
    given = {**IN_SLURM, **other}
    settle(given, on_cpu=False)
    assert {name: given[name] for name in other} == other
    assert "ACCELERATE_USE_CPU" not in given


def test_this_machine_itself_needs_no_interface() -> None:
    assert interface_towards("127.0.0.1") == interface_towards("no such.host") == ""


@pytest.mark.parametrize(("here", "interface"), [("1", "eth0"), ("2", None)])
def test_the_machine_where_all_meet_listens_where_others_reach_it(
    monkeypatch: pytest.MonkeyPatch, here: str, interface: str | None
) -> None:
    """Debian and Ubuntu call a machine 127.0.1.1 on itself."""
    monkeypatch.setattr(places, "interface_outwards", lambda: "eth0")
    given = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": here, "MASTER_ADDR": "127.0.1.1"}
    settle(given, on_cpu=True)
    assert given.get("GLOO_SOCKET_IFNAME") == interface


@pytest.mark.parametrize(("also", "found"), [([], "eth0"), (["eth1"], "")])
def test_without_a_default_route_the_only_interface_is_taken(
    monkeypatch: pytest.MonkeyPatch, also: list[str], found: str
) -> None:
    def address(text: str, family: int = socket.AF_INET) -> SimpleNamespace:
        return SimpleNamespace(address=text, family=family)

    known = {"lo": [address("127.0.0.1"), address("::1", socket.AF_INET6)]}
    known |= {"off": [address("10.0.0.9")], "radio": [address("00:11:22", socket.AF_PACKET)]}
    known |= {name: [address("fe80::1%eth0", socket.AF_INET6), address("10.0.0.1")] for name in ("eth0", *also)}
    up = {name: SimpleNamespace(isup=name != "off") for name in known}
    monkeypatch.setattr(places, "interface_towards", lambda _: "")
    monkeypatch.setattr(places, "psutil", SimpleNamespace(net_if_addrs=lambda: known, net_if_stats=lambda: up))
    assert interface_outwards() == found
