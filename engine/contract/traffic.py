"""What the network between machines costs a step: pure functions of sizes, numbers of ranks and rates."""

import math
from dataclasses import dataclass

BYTES_OF_A_GRADIENT = 4  # fp32, as the gradients are summed
BUCKET_ELEMENTS = 4 << 20  # gradients are summed 16 MiB at a time
BITS = 8
HOP = 50e-6  # seconds from one machine to the next over TCP on Ethernet, as gloo and NCCL without RDMA need them


def gradient_bytes(trained: int, ranks: int) -> int:
    """Bytes that each rank sends a step: a ring all-reduce of n ranks sends 2 (n - 1) / n times the gradient."""
    return round(2 * (ranks - 1) / ranks * trained * BYTES_OF_A_GRADIENT)


def divided_bytes(gathered: int, trained: int, ranks: int) -> int:
    """Bytes that each of the ranks that a model is divided among sends a micro-batch.

    `gathered` are those of the weights that are put together in it. The gradients of what learns are summed into shares
    in fp32: a ring sends (n - 1) / n of both.
    """
    return round((ranks - 1) / ranks * (gathered + trained * BYTES_OF_A_GRADIENT))


def seconds(sent: int, gigabits: float) -> float:
    """Seconds for which a connection of this rate, in Gbit/s, is busy with that many bytes."""
    return sent * BITS / (gigabits * 1e9)


def sum_seconds(trained: int, ranks: int, gigabits: float) -> float:
    """Seconds that the gradients of a step take: their bytes, and 2 (n - 1) hops around the ring for each bucket."""
    buckets = math.ceil(trained / BUCKET_ELEMENTS)
    return seconds(gradient_bytes(trained, ranks), gigabits) + buckets * 2 * (ranks - 1) * HOP


@dataclass(frozen=True)
class StepCost:
    """A step of several machines with one rank each, in seconds; each has the work that one alone would have."""

    compute: float
    trained: int
    nodes: int
    gigabits: float

    @property
    def network(self) -> float:
        """The time of the sum."""
        return sum_seconds(self.trained, self.nodes, self.gigabits)

    @property
    def total(self) -> float:
        """The time of a step if nothing of the sum is hidden behind the computation."""
        return self.compute + self.network

    @property
    def speedup(self) -> float:
        """How many times the rows a second of one machine these machines train."""
        return self.nodes * self.compute / self.total
