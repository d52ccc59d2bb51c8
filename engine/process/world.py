"""The processes of a run: how many there are, what they agree on, and the sum of their gradients."""

import contextlib
import os
import random
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, gather_object
from torch import Tensor, nn

from engine.contract import environment
from engine.contract.launch import OURS, Launch
from engine.contract.machine.gpus import YES, cpu_requested
from engine.contract.messages import InputError
from engine.contract.processes import boot_id, host_name
from engine.cpu import placement
from engine.process import gpu_settings, gradient_sums, places, roll_call
from engine.process.heartbeat import RankStatus
from engine.process.meeting import COLLECTIVE_LIMIT, meet

T = TypeVar("T")

ERROR_HANDLING = ("TORCH_NCCL_ASYNC_ERROR_HANDLING", "NCCL_ASYNC_ERROR_HANDLING")  # the second is its older name
TEAR_DOWN, ABORT_AND_TEAR_DOWN = "3", "1"
DUMP_TIME, DUMP_MILLISECONDS = "TORCH_NCCL_WAIT_TIMEOUT_DUMP_MILSEC", "30000"


class World:
    """All ranks of the run, seen from one of them."""

    attempt = 0  # its number, if rank 0 began it before all had come

    def __init__(
        self, launch: Launch = OURS, run: str = "", folder: str = "", report: roll_call.Report | None = None
    ) -> None:
        """Meets the others; raises InputError, and what `report` raises, which is called with who is waited for.

        `launch` is what a launcher was asked for, `run` the id of the run that this rank finds in `folder`.
        """
        # accelerate would load DeepSpeed for it, which `check` refuses in words.
        self.deepspeed = os.environ.pop("ACCELERATE_USE_DEEPSPEED", "").lower() in YES
        gpu_settings.settle(os.environ)
        asked = cpu_requested()
        places.settle(os.environ, on_cpu=not torch.accelerator.is_available())
        self._roll_call = roll_call.called(os.environ, report or roll_call.printing())
        leave_time_for_the_certificate(os.environ)
        self._meeting = meet(os.environ, launch, run, folder, asked=asked)
        # Ranks that a supervisor started meet through a file, which needs no port that another program might take.
        group = InitProcessGroupKwargs(timeout=COLLECTIVE_LIMIT, init_method=os.environ.get(environment.RENDEZVOUS))
        self.accelerator = Accelerator(kwargs_handlers=[group])
        self.rank_status = RankStatus()
        self.launched = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank: int = self.accelerator.process_index
        self.size: int = self.accelerator.num_processes
        self.device: torch.device = self.accelerator.device
        self._by_nccl = self.size > 1 and dist.get_backend() == "nccl"
        # If the launcher's world differs from this one, every process believes it is rank 0: the RANK variable decides.
        self.is_main: bool = self.accelerator.is_main_process and os.environ.get("RANK", "0") == "0"
        self._place()

    def _place(self) -> None:
        """Finds out which ranks are on which machine."""
        mine = (host_name(), boot_id())
        found = [(hello.node, hello.boot) for hello in self._meeting.hellos]
        if len(found) != self.size:
            supervised = environment.SUPERVISOR in os.environ  # which starts ranks on its own machine only
            found = [mine] * self.size if supervised or self.size == 1 else self.gather([mine])
        self.nodes: list[str] = [name for name, _ in found]  # the machine of each rank
        self.machines = list(dict.fromkeys(found))  # in the order of their lowest ranks
        self.machine: int = self.machines.index(mine)
        self.is_local_main: bool = found.index(mine) == self.rank

    def check(self, promised: int, command: str) -> None:
        """Raises InputError unless this world has the size that was launched and promised.

        accelerate's multi-GPU launcher on a machine without GPUs starts processes that each believe they are alone;
        `command` is what works there instead. If `promised` is 0, nothing was promised. DeepSpeed is refused too.
        """
        if self.deepspeed:
            raise InputError("deepspeed_refused")
        if self.launched != self.size:
            gpus = torch.accelerator.device_count()
            raise InputError("world_mismatch", launched=self.launched, found=self.size, gpus=gpus, command=command)
        if promised and promised != self.size:
            raise InputError("world_promised", promised=promised, found=self.size)

    def together(self, work: Callable[[], T], *, chosen: bool) -> T | None:
        """Does `work` on the chosen ranks; raises its InputError on all of them, so that none waits forever."""
        value, fault = None, None
        if chosen:
            try:
                value = work()
            except InputError as error:
                fault = (type(error), error.message.code, dict(error.message.args))
        for found in self.gather([fault]):
            if found is not None:
                kind, code, args = found
                raise kind(code, **args)
        return value

    def shared(self, opened: Callable[[], T], files: Iterable[Path]) -> T | None:
        """Opens files private to the ranks of this machine on each of them, and unlinks them once all have them open.

        Returns None on all ranks if one of them failed to open them. Nothing is left behind, however the ranks end.
        """
        value: T | None = None
        files = list(files)
        with contextlib.suppress(OSError):
            if self.is_local_main:
                for file in files:
                    file.unlink(missing_ok=True)
                value = opened()
        self.wait()
        with contextlib.suppress(OSError):
            value = opened() if value is None else value
        everyone = all(self.gather([value is not None]))
        if self.is_local_main:
            for file in files:
                file.unlink(missing_ok=True)
        return value if everyone else None

    def wait(self) -> None:
        """Returns when every rank has called it."""
        if self.size > 1:
            # accelerate would name the GPU by LOCAL_RANK, which is too high where each rank sees a single GPU.
            gpus = None if self.device.type == "cpu" else [self.device.index]
            with self.exchange():
                dist.barrier(device_ids=gpus)

    def sum(self, values: list[float], *own: Tensor) -> list[float]:
        """Each value summed over all ranks, in float64 (float32 if the device has no float64), then `own` of this rank.

        The host waits for a GPU once: `own` are single values there, which are read together with the sums.
        """
        if self.size == 1:
            return [*values, *(value.item() for value in own)]
        kind = torch.float32 if self.device.type == "mps" else torch.float64
        tensor = placement.copied(torch.tensor(values, dtype=kind), self.device)
        with self.exchange():
            dist.all_reduce(tensor)
            found = torch.cat([tensor, *(value.to(kind).view(1) for value in own)]) if own else tensor
            return cast(list[float], found.tolist())

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sums every parameter's gradient over all ranks, in place; a missing gradient counts as zero."""
        if self.size > 1:
            with self.exchange():
                gradient_sums.sum_gradients(parameters)

    def gather(self, items: list[Any]) -> list[Any]:
        """The items of all ranks in one list, rank 0's first, on every rank."""
        if self.size == 1:
            return items
        with self.exchange():
            return cast(list[Any], gather_object(items))

    def everyone(self, value: bool) -> bool:
        """Whether it is true on every rank."""
        return all(self.gather([value]))

    def from_main(self, value: Any) -> Any:
        """Rank 0's value, on every rank."""
        if self.size == 1:
            return value
        box = [value]
        with self.exchange():
            dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    @contextlib.contextmanager
    def exchange(self) -> Iterator[None]:
        """Wraps an exchange; raises RuntimeError after one that NCCL gave up, whose result is not to be used."""
        with self.rank_status.waiting_for_others():
            yield
            if self.exchange_failed():
                raise RuntimeError("NCCL communicator was aborted: an exchange with another rank failed.")

    def exchange_failed(self) -> bool:
        """Whether NCCL has found an error in an exchange, or given one up; other backends raise their errors."""
        return self._by_nccl and _error_of_the_group(self.device) != "SUCCESS"

    def remove_rendezvous_file(self) -> None:
        """Removes the file that the ranks met through, if nothing else is left to do it."""
        if path := os.environ.get(environment.RENDEZVOUS):
            Path(path.removeprefix("file://").partition("?")[0]).unlink(missing_ok=True)

    def end(self) -> None:
        """Leaves the process group in an orderly way."""
        self.accelerator.end_training()


def _error_of_the_group(device: torch.device) -> str:
    """The name of the error that torch has found in the group's exchanges; SUCCESS if none."""
    group = dist.group.WORLD  # None once this rank has left it
    if group is not None:
        with contextlib.suppress(RuntimeError, ValueError):  # the main thread is just leaving it, in order
            return str(group._get_backend(device).get_error().name)
    return "SUCCESS"


def leave_time_for_the_certificate(given: MutableMapping[str, str]) -> None:
    """Has NCCL's watchdog end a rank, but not before our own watch could; values that a user has set stay.

    To be called before the group is made. When an exchange fails, as when its other end is gone, a thread of torch
    notices it within a second, waits for four times `DUMP_TIME`, and ends the process, so that nothing can use the
    result; the main thread waits for the GPU all the while. `peers` needs up to 40 s to be sure of a silent machine and
    20 s to write that down, but torch's own 4 × 15 s are not more than that: so they are 4 × 30 s.

    It must end the process by itself too, should ours not: 3, torch's default, does so and leaves the exchange as it
    is, which therefore never completes with wrong data. torchrun sets 1 where nothing is set: that aborts the exchange
    first, and for a moment the main thread computes with what is in its buffers. 1 under torchrun is therefore taken
    for torchrun's. 2, which only aborts, and 0, which does nothing, are a user's: `World` asks after each exchange.
    The monitor of that thread (TORCH_NCCL_ENABLE_MONITORING, by default 8 minutes) is left as it is: it only ends a
    process whose thread hangs in a call of the driver.
    """
    name = next((name for name in ERROR_HANDLING if name in given), ERROR_HANDLING[0])
    if name not in given or ("TORCHELASTIC_RUN_ID" in given and given[name] == ABORT_AND_TEAR_DOWN):
        given[name] = TEAR_DOWN
    given.setdefault(DUMP_TIME, DUMP_MILLISECONDS)


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seeds torch, numpy and random from (seed, step, rank), so that a resumed step draws the same numbers."""
    words = np.random.SeedSequence([seed, step, rank]).generate_state(2, np.uint64)
    torch.manual_seed(int(words[0]))
    np.random.seed(int(words[1]) % 2**32)
    random.seed(int(words[1]))
