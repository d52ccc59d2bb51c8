"""The readings of machines and GPUs of a run that no supervisor watches: one rank of each machine takes them."""

import contextlib
import os
from collections.abc import Callable, Iterator

from engine.contract.machine.host import Monitor, Watched
from engine.contract.messages import Message
from engine.process.attempt import stream_of
from engine.process.heartbeat import supervised
from engine.process.job import Job
from engine.process.world import World


def watched(work: Callable[[Job], Message]) -> Callable[[Job], Message]:
    """The work of a job, with readings of all its machines in its streams from beginning to end."""

    def work_watched(job: Job) -> Message:
        with _readings(job):
            return work(job)

    return work_watched


@contextlib.contextmanager
def _readings(job: Job) -> Iterator[None]:
    monitor = None if supervised() else _monitor(job)
    if monitor is not None:
        monitor.start()
    try:
        yield
    finally:
        if monitor is not None:
            monitor.stop()


def _monitor(job: Job) -> Monitor | None:
    """What takes the readings of this rank's machine; None on ranks that leave it to another. Called by all ranks."""
    world = job.world
    found = world.gather([(world.machine, os.getpid())])
    if not world.is_local_main:
        return None
    here = [(rank, pid) for rank, (machine, pid) in enumerate(found) if machine == world.machine]
    ranks, pids = zip(*here, strict=True)
    place = Watched(job.output.path, ranks, world.machine, name_of(world))
    with contextlib.suppress(OSError):
        return Monitor(stream_of(world, job.run_dir), job.log.attempt, pids, place)
    return None


def name_of(world: World) -> str:
    """The name of this rank's machine, with its number if another one has the same; empty if it is the only one."""
    if len(world.machines) < 2:
        return ""
    names = [name for name, _boot in world.machines]
    own = names[world.machine]
    return own if names.count(own) == 1 else f"{own} ({world.machine})"
