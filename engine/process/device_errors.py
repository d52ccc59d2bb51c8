"""What the error that ended a rank says: memory ran out, on the host or on its GPU, the GPU failed, or another rank."""

import contextlib
import re

import torch

from engine.contract import events
from engine.contract.machine import gpus
from engine.contract.machine.driver_log import DriverLog, in_words
from engine.process.heartbeat import supervised

OF_A_GPU = re.compile(r"\b(cuda|cublas|cudnn|nccl|hip|rccl|xpu)", re.IGNORECASE)
SHORT = re.compile(r"out of memory|_STATUS_ALLOC_FAILED|_STATUS_NOT_ENOUGH_WORKSPACE", re.IGNORECASE)
# Errors after which the GPU, its driver or its power is in doubt. A failed assertion on the device is not one of them:
# that is an index out of range in the program or the data.
BROKEN = re.compile(
    r"unspecified launch failure|uncorrectable|hardware stack error|illegal (?:instruction|memory access)"
    r"|launch timed out|is lost|fallen off the bus|no CUDA-capable device|devices? unavailable|unknown error",
    re.IGNORECASE,
)
# Of a sum or exchange that another rank left: gloo's, and NCCL's. Where a model is divided, any layer may be in one.
LEFT = re.compile(r"gloo/transport/|ncclRemoteError|NCCL communicator was aborted")
# As torch writes them: "Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 11.76 GiB of which 1.20 GiB is free."
SIZE = r"([\d.]+) (bytes|[KMGT]iB)"
ASKED = re.compile(rf"Tried to allocate {SIZE}")
ROOM = re.compile(rf"GPU (\d+) has a total capacity of {SIZE} of which {SIZE} is free")
DRIVER_LOG = DriverLog()  # from now on
UNITS = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


def kind_of(error: BaseException) -> str:
    """The reason of an end by this error: out_of_memory, out_of_gpu_memory, gpu_failed, or failed."""
    if isinstance(error, torch.OutOfMemoryError):
        return "out_of_gpu_memory"
    if isinstance(error, MemoryError):
        return "out_of_memory"
    if not isinstance(error, RuntimeError):
        return "failed"
    text = str(error)
    if "can't allocate memory" in text:
        return "out_of_memory"
    if OF_A_GPU.search(text) and SHORT.search(text):
        return "out_of_gpu_memory"
    return "gpu_failed" if OF_A_GPU.search(text) and BROKEN.search(text) else "failed"


def connection_broke(error: BaseException) -> bool:
    """Whether an error says that the connection to another rank broke: most likely that one has ended."""
    return isinstance(error, RuntimeError) and LEFT.search(str(error)) is not None


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, on the host or on a GPU."""
    return kind_of(error) in ("out_of_memory", "out_of_gpu_memory")


def gpu_of(error: BaseException, device: torch.device) -> dict[str, str]:
    """The number of the GPU that an error is about, its name, and what was asked of its memory; {} if of none.

    The number is the driver's, or below a supervisor CUDA's.
    """
    if kind_of(error) not in ("out_of_gpu_memory", "gpu_failed"):
        return {}
    text = str(error)
    found = {"gpu": str(device.index or 0)}
    if room := ROOM.search(text):
        number, total, total_unit, free, free_unit = room.groups()
        found |= {"gpu": number, "total": _bytes(total, total_unit), "free": _bytes(free, free_unit)}
    if asked := ASKED.search(text):
        found["asked"] = _bytes(*asked.groups())
    if device.type == "cuda":
        with contextlib.suppress(RuntimeError, AssertionError):  # of a GPU that no longer answers
            found["name"] = torch.cuda.get_device_name(int(found["gpu"]))
    return found if supervised() else found | _by_driver(int(found["gpu"]))


def _by_driver(place: int) -> dict[str, str]:
    """The driver's number of a GPU by CUDA's, whether it is lost, and what it reported to the kernel's log.

    A supervisor finds these out itself.
    """
    found = {}
    for listed in gpus.asked()[0]:
        gpu = events.event_from_json("gpu", listed)
        if isinstance(gpu, events.Gpu) and gpu.place == place:
            found = {"gpu": str(gpu.index), **({"lost": "yes"} if gpu.lost else {})}
    reported = in_words(DRIVER_LOG.xids())
    return {**found, **({"driver": reported} if reported else {})}


def _bytes(number: str, unit: str) -> str:
    """A size as the number of its bytes."""
    try:
        return str(int(float(number) * UNITS[unit]))
    except ValueError:
        return "0"
