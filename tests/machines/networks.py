"""Machines as network namespaces of this one, each joined by a cable to a switch on the first."""

import contextlib
import secrets
import subprocess
from collections.abc import Iterator, Sequence

LIMIT = 60.0  # seconds for a command


def tool(*words: str) -> None:
    """Runs a command to its end; raises CalledProcessError."""
    subprocess.run(words, check=True, capture_output=True, timeout=LIMIT)


class Network:
    """The namespaces of machines; each has an address, the first one's is the lowest."""

    def __init__(self, machines: Sequence[str]) -> None:
        self.addresses = {name: f"10.98.0.{number}" for number, name in enumerate(machines, 1)}
        self._switch, *self._others = machines
        self._mark = secrets.token_hex(3)

    def namespace(self, name: str) -> str:
        """The namespace of a machine, whose name no other test has."""
        return f"{name}-{self._mark}"

    def within(self, name: str, words: Sequence[str]) -> list[str]:
        """A command in the network of a machine; `ip netns exec` would hide the control groups from it."""
        return ["nsenter", f"--net=/run/netns/{self.namespace(name)}", *words]

    def connect(self) -> None:
        """Makes all namespaces and their cables."""
        switch = self.namespace(self._switch)
        for name in self.addresses:
            tool("ip", "netns", "add", self.namespace(name))
            tool("ip", "-n", self.namespace(name), "link", "set", "lo", "up")
        tool("ip", "-n", switch, "link", "add", "switch", "type", "bridge")
        self._address(self._switch, "switch")
        for name in self._others:
            mine = self.namespace(name)
            tool("ip", "link", "add", "cable", "netns", mine, "type", "veth", "peer", name, "netns", switch)
            tool("ip", "-n", switch, "link", "set", name, "master", "switch", "up")
            self._address(name, "cable")

    def _address(self, name: str, device: str) -> None:
        space = self.namespace(name)
        tool("ip", "-n", space, "addr", "add", f"{self.addresses[name]}/24", "dev", device)
        tool("ip", "-n", space, "link", "set", device, "up")

    def cut(self, name: str, other: str) -> None:
        """Loses all that two machines send each other, and nothing else."""
        for here, there in ((name, other), (other, name)):
            nobody = ("lladdr", "02:00:00:00:00:99", "nud", "permanent", "dev", "cable")
            tool("ip", "-n", self.namespace(here), "neigh", "replace", self.addresses[there], *nobody)

    def limit(self, name: str, megabits: int) -> None:
        """Limits what a machine sends, in Mbit/s."""
        bucket = ("tbf", "rate", f"{megabits}mbit", "burst", "64kb", "latency", "500ms")
        tool("tc", "-n", self.namespace(name), "qdisc", "replace", "dev", "cable", "root", *bucket)

    def remove(self) -> None:
        """Removes what was made."""
        for name in reversed(self.addresses):
            words = ["ip", "netns", "del", self.namespace(name)]
            subprocess.run(words, check=False, capture_output=True, timeout=LIMIT)


@contextlib.contextmanager
def connected(machines: Sequence[str]) -> Iterator[Network]:
    """The networks of these machines, removed afterwards."""
    network = Network(machines)
    try:
        network.connect()
        yield network
    finally:
        network.remove()
