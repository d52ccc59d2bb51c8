"""How the processes of a run are started if a launcher does it: on which machines, and where they meet."""

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


OURS = Launch()  # our own supervisor starts the processes
