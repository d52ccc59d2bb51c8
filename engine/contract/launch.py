"""How the processes of a run are started if a launcher does it: on which machines, and where they meet."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Annotated, Literal

from engine.contract.bounds import Between, Name

Launcher = Literal["", "torchrun", "accelerate", "slurm"]
PORT = 29500  # torch's own


@dataclass(frozen=True)
class Launch:
    """What a launcher was asked for; the default stands for a run that our own supervisor starts."""

    launcher: Launcher = ""
    nodes: Annotated[int, Between(1, 1024)] = 1
    gpus: Annotated[int, Between(0, 64)] = 0  # of each machine; 0: one process on its CPU
    endpoint: Name = ""  # HOST:PORT of the machine where all meet; Slurm knows it

    @property
    def on_each(self) -> int:
        """The number of processes on each machine."""
        return max(1, self.gpus)

    @property
    def processes(self) -> int:
        """The number of processes on all machines."""
        return self.nodes * self.on_each

    @property
    def meeting(self) -> tuple[str, str]:
        """The host where all meet, an address of IPv6 without brackets, and the port."""
        host, _, port = self.endpoint.rpartition(":")
        return host.removeprefix("[").removesuffix("]"), port


OURS = Launch()  # our own supervisor starts the processes


def endpoint_of(given: str) -> str:
    """HOST:PORT as typed by a person, or with the usual port; raises ValueError if it is none.

    An address of IPv6 stands in brackets if a port follows.
    """
    found = re.fullmatch(r"\[([^][]+)\](?::(\d{1,5}))?", given) or re.fullmatch(r"([^:]+)(?::(\d{1,5}))?", given)
    host, port = (found[1], int(found[2] or PORT)) if found else (given, PORT)
    if not 0 < port < 2**16:
        raise ValueError("no port")
    if ":" in host or given.startswith("["):
        return f"[{ipaddress.IPv6Address(host)}]:{port}"
    if not re.fullmatch(r"\w[\w.-]{0,180}", host):
        raise ValueError("no host")
    return f"{host}:{port}"
