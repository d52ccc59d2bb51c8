"""How fast the network between the machines of a run is: a short sum over all ranks, timed before the first step."""

import time

import torch
import torch.distributed as dist

from engine.contract.messages import Message
from engine.contract.traffic import BUCKET_ELEMENTS, divided_bytes, gradient_bytes
from engine.process.world import World

FIRST_ELEMENTS = BUCKET_ELEMENTS // 16  # of fp32: what a slow network is not busy with for long
SHORT_SECONDS = 0.5  # if the first sum took less, one of the size that training uses is timed too


def bytes_per_second(world: World) -> float:
    """What each rank sends while gradients are summed over several ranks, in bytes a second. All ranks call it."""
    sizes = (1, FIRST_ELEMENTS, BUCKET_ELEMENTS)  # the first opens the connections
    rate = 0.0
    for elements in sizes:
        seconds = world.from_main(_timed(world, elements))
        rate = gradient_bytes(elements, world.size) / seconds
        if seconds > SHORT_SECONDS:
            break
    return rate


def _timed(world: World, elements: int) -> float:
    flat = torch.zeros(elements, device=world.device)
    world.wait()
    began = time.perf_counter()
    with world.rank_status.waiting_for_others():
        dist.all_reduce(flat)
        flat[0].item()  # a GPU is done only then
    return max(time.perf_counter() - began, 1e-6)


def measured(world: World, trained: int, gathered: int = 0) -> Message | None:
    """What the network costs a step that sums the gradients of `trained` parameters; None on one machine.

    `gathered`: bytes of the weights that are put together in a micro-batch of a model that is divided among the ranks,
    of which it is then said.
    """
    if len(world.machines) < 2:
        return None
    rate, ranks = bytes_per_second(world), world.size
    sent = divided_bytes(gathered, trained, ranks) if gathered else gradient_bytes(trained, ranks)
    # Of a divided model no exchange is so long; but the host of a GPU, which runs ahead, waits for many at once.
    world.rank_status.longest_exchange = sent / rate
    shown = {"rate": f"{rate / 1e6:.4g}", "size": f"{sent / 1e6:.4g}", "seconds": f"{sent / rate:.2g}"}
    return Message.of("network_measured_divided", **shown) if gathered else Message.of("network_measured", **shown)
