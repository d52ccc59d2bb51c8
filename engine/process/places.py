"""The place of a rank among all: found in the variables of torchrun, accelerate launch or Slurm's `srun`.

torch and accelerate read torchrun's names only, so a place found under Slurm's is written under these.
"""

import contextlib
import ipaddress
import re
import socket
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

import psutil

from engine.contract import environment

GLOO_INTERFACE = "GLOO_SOCKET_IFNAME"
ELSEWHERE = ("192.0.2.1", "2001:db8::1")  # addresses of documents: nothing is sent to them
FIRST_PORT, PORTS = 15000, 15000  # below the ports that Linux gives to outgoing connections


@dataclass(frozen=True)
class Place:
    """A rank's number, the number of ranks, the same on its own machine, and where all of them meet."""

    rank: int
    size: int
    local_rank: int
    local_size: int
    address: str = ""
    port: str = ""

    def variables(self) -> dict[str, str]:
        """The place under torchrun's names."""
        numbers = {
            "RANK": self.rank,
            "WORLD_SIZE": self.size,
            "LOCAL_RANK": self.local_rank,
            "LOCAL_WORLD_SIZE": self.local_size,
        }
        return {name: str(value) for name, value in numbers.items()} | {
            "MASTER_ADDR": self.address,
            "MASTER_PORT": self.port,
        }


def place_in_slurm(given: Mapping[str, str]) -> Place | None:
    """The place of a task that `srun` started; None if none did.

    A batch script has most of these variables as well, but no step: a program started there is alone.
    """
    step = given.get("SLURM_STEP_ID") or given.get("SLURM_STEPID")
    size = _number(given.get("SLURM_STEP_NUM_TASKS") or given.get("SLURM_NTASKS"))
    rank = _number(given.get("SLURM_PROCID"))
    if not step or size is None or rank is None:
        return None
    counts = tasks_per_node(given.get("SLURM_STEP_TASKS_PER_NODE") or given.get("SLURM_TASKS_PER_NODE", ""))
    node = _number(given.get("SLURM_NODEID")) or 0
    hosts = given.get("SLURM_STEP_NODELIST") or given.get("SLURM_JOB_NODELIST", "")
    return Place(
        rank,
        size,
        local_rank=_number(given.get("SLURM_LOCALID")) or 0,
        local_size=counts[node] if node < len(counts) else 1,
        address=given.get("MASTER_ADDR") or first_host(hosts),
        port=given.get("MASTER_PORT") or str(FIRST_PORT + (_number(given.get("SLURM_JOB_ID")) or 0) % PORTS),
    )


def rank_of(given: Mapping[str, str]) -> int:
    """The number of this rank, also before `settle`; 0 of a process that is alone."""
    if (rank := _number(given.get("RANK"))) is not None:
        return rank
    place = place_in_slurm(given)
    return place.rank if place is not None and place.size > 1 else 0


def first_host(nodes: str) -> str:
    """The first host of a list as Slurm writes it: that of `gpu[03-04,7],login` is gpu03."""
    host, inside = "", False
    for part in re.split(r"([\[\],])", nodes):
        if part == "," and not inside:
            break
        if part in "[]" and part:
            inside = part == "["
            skipping = False
        elif inside:
            if not skipping:
                host += part.partition("-")[0]
            skipping = True
        else:
            host += part
    return host.strip()


def tasks_per_node(counts: str) -> list[int]:
    """The number of tasks on each node: `2(x3),1` stands for 2, 2, 2 and 1."""
    found: list[int] = []
    for count, times in re.findall(r"(\d{1,6})(?:\(x(\d{1,6})\))?", counts):
        found += [int(count)] * int(times or 1)
    return found


def settle(given: MutableMapping[str, str], *, on_cpu: bool) -> None:
    """Completes the environment `given`, before torch reads it; what a person or a launcher has set stays.

    `on_cpu`: whether this machine has no accelerator, so that ranks must meet without one.
    """
    if environment.SUPERVISOR in given:
        return
    if "RANK" not in given and (place := place_in_slurm(given)) is not None and place.size > 1:
        given.update(place.variables())
    if (_number(given.get("WORLD_SIZE")) or 1) < 2:
        return
    if on_cpu:
        given.setdefault("ACCELERATE_USE_CPU", "true")
    if GLOO_INTERFACE in given:
        return
    name = interface_towards(given.get("MASTER_ADDR", ""))
    if not name and given.get("LOCAL_WORLD_SIZE") not in (None, given["WORLD_SIZE"]):
        name = interface_outwards()  # on the machine where all meet, its name is often one of the loopback
    if name:
        given[GLOO_INTERFACE] = name


def interface_towards(address: str) -> str:
    """The network interface through which `address` is reached; empty for this machine itself, or if unknown.

    Without a name gloo takes the address that the machine's own name resolves to: on many that is 127.0.1.1, which no
    other machine can reach.
    """
    with contextlib.suppress(OSError, ValueError):
        family, *_, target = socket.getaddrinfo(address or "localhost", 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(target)  # sends nothing
            own = probe.getsockname()[0].partition("%")[0]
        if _is_loopback(own):
            return ""
        for name, addresses in psutil.net_if_addrs().items():
            if any(one.address.partition("%")[0] == own for one in addresses):
                return str(name)
    return ""


def interface_outwards() -> str:
    """The network interface of the default route, or else the only one that is up; empty if that is unknown."""
    for address in ELSEWHERE:
        if name := interface_towards(address):
            return name
    up = {name for name, stats in psutil.net_if_stats().items() if stats.isup}
    inet = (socket.AF_INET, socket.AF_INET6)
    found = [
        str(name)
        for name, addresses in psutil.net_if_addrs().items()
        if name in up and any(one.family in inet and not _is_loopback(one.address) for one in addresses)
    ]
    return found[0] if len(found) == 1 else ""


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _number(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"\d{1,9}", text) else None
