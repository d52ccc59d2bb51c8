"""The GPUs as reported by NVML, read in a separate process: `python -m engine.contract.machine.gpus [--once]`.

A missing, mismatched, crashing or hanging driver ends or blocks only that process. It prints one line of JSON every
2 s, `{"gpus": [{"index", "place", "name", "capability", "readings"}], "why": ""}`, or a single line with the reason why
there are none, and exits. Names and reasons are foreign text, and are written as ASCII.
"""

import contextlib
import functools
import json
import os
import re
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TextIO

from engine.contract.child_command import module_command
from engine.contract.machine import mig

INTERVAL_SECONDS = 2.0
COUNT_SECONDS = 10.0  # a driver without persistence mode first wakes its GPUs, which takes seconds for each
REAP_SECONDS = 1.0
PARENT_SECONDS = 1.0
NOT_AVAILABLE = "N/A"
SILENT = "the driver does not answer"
# Prefixes of the reasons that are not faults: no driver (in NVML's own words), GPUs hidden.
NO_GPUS = ("NVML Shared Library Not Found", "CUDA_VISIBLE_DEVICES", "the driver knows no GPU")
STDOUT, STDERR = 1, 2
YES = ("1", "true", "t", "yes", "y", "on")  # in accelerate's variables, as it reads them

BF16_SINCE = 8  # major number of the compute capability: Ampere

Gpu = dict[str, Any]


def command(*options: str) -> list[str]:
    """The command that prints the GPUs."""
    return module_command("engine.contract.machine.gpus", *options)


@functools.cache
def found() -> tuple[list[Gpu], str]:
    """The GPUs that a training can use, as of the first call, or why there are none.

    These are the GPUs that respond and that CUDA_VISIBLE_DEVICES does not hide.
    """
    listed, why = asked()
    return [gpu for gpu in listed if _responds(gpu)], why


def asked() -> tuple[list[Gpu], str]:
    """What the driver says now of every GPU that CUDA_VISIBLE_DEVICES does not hide, or why it says nothing."""
    try:
        child = subprocess.Popen(
            command("--once"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except OSError as error:
        return [], error.strerror or str(error)
    try:
        out, _ = child.communicate(timeout=COUNT_SECONDS)
        said = json.loads(out)
        return list(said["gpus"]), str(said["why"])
    except subprocess.TimeoutExpired:
        return [], SILENT
    except (ValueError, LookupError):
        return [], "the driver crashed"
    finally:
        _end(child)


def gpu_count() -> int:
    """The number of GPUs that a training can use."""
    return len(found()[0])


@dataclass(frozen=True)
class UsableGpu:
    """A GPU that a training can use, by the driver's number; memory in bytes, None if the driver does not report it."""

    index: int
    name: str = ""
    total: int | None = None
    free: int | None = None
    bf16: bool = False  # whether it computes in bf16 natively


def usable() -> list[UsableGpu]:
    """The GPUs that a training can use, in the order in which ranks take them: that of CUDA."""
    return [_usable(gpu) for gpu in found()[0]]


def _usable(gpu: Gpu) -> UsableGpu:
    readings = gpu["readings"]
    total, used = (int(text) if text.isdigit() else None for text in map(readings.get, ("memory_total", "memory_used")))
    free = None if total is None or used is None else total - used
    major = str(gpu.get("capability", "")).partition(".")[0]
    return UsableGpu(gpu["index"], gpu["name"], total, free, major.isdecimal() and int(major) >= BF16_SINCE)


def fault() -> str:
    """Why the installed driver reports no GPU; empty if one responds, or if there is no driver."""
    why = found()[1]
    return "" if why.startswith(NO_GPUS) else why


def _end(child: "subprocess.Popen[bytes]") -> None:
    """Kills and reaps a child; a child that the driver holds in the kernel is not waited for."""
    child.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(REAP_SECONDS)
    if child.stdout:
        child.stdout.close()


def _responds(gpu: Gpu) -> bool:
    """Whether a GPU returns any reading: NVML also lists GPUs that are lost or belong to another container."""
    return any(not text.startswith(NOT_AVAILABLE) for text in (gpu["name"], *gpu["readings"].values()))


def in_use() -> bool:
    """Whether a run that is started on this machine uses its GPUs."""
    return not cpu_requested() and gpu_count() > 0


def cpu_requested(given: Mapping[str, str] = os.environ) -> bool:
    """Whether ACCELERATE_USE_CPU makes the trainer use the CPU."""
    return given.get("ACCELERATE_USE_CPU", "").lower() in YES


def on_cpu(processes: int) -> bool:
    """Whether the trainer must be set to the CPU: if asked for, or for several processes without a GPU known to NVML.

    A single process finds its device itself, possibly one unknown to NVML.
    """
    return cpu_requested() or (processes > 1 and gpu_count() == 0)


def visible(asked: str, uuids: Sequence[str]) -> list[int]:
    """The GPUs that CUDA_VISIBLE_DEVICES does not hide, by index in `uuids`, parsed as CUDA and torch parse it.

    It lists indices or prefixes of UUIDs, not both, ends at the first entry that is not a GPU, and hides all GPUs if
    one is listed twice.
    """
    find = _by_uuid if asked.startswith("GPU-") else _by_index
    chosen: list[int] = []
    for entry in asked.split(","):
        index = find(entry.strip(), uuids)
        if index is None:
            break
        if index in chosen:
            return []
        chosen.append(index)
    return chosen


def _by_uuid(entry: str, uuids: Sequence[str]) -> int | None:
    found = [index for index, uuid in enumerate(uuids) if entry.startswith("GPU-") and uuid.startswith(entry)]
    return found[0] if len(found) == 1 else None


def _by_index(entry: str, uuids: Sequence[str]) -> int | None:
    number = re.match(r"\+?[0-9]{1,9}", entry)  # CUDA uses the number at the start of an entry
    return int(number[0]) if number and int(number[0]) < len(uuids) else None


def _lines() -> Iterator[dict[str, Any]]:
    """The answer for each reading; the last one is the reason why there are no GPUs."""
    asked = os.environ.get("CUDA_VISIBLE_DEVICES")
    try:
        if asked is not None and not re.match(r"GPU-|MIG-|\s*\+?[0-9]", asked):
            raise LookupError("CUDA_VISIBLE_DEVICES names no GPU")  # no need to ask the driver
        import pynvml  # here, since importing this module for the count must not need it

        pynvml.nvmlInit()
        for found in _readings(pynvml, asked):
            yield {"gpus": [{**gpu, "place": place} for place, gpu in enumerate(found)], "why": ""}
    except Exception as error:  # of NVML, the binding, or our own code: the reader of the line must see it
        yield {"gpus": [], "why": _reason(error)}


def _readings(nvml: Any, asked: str | None) -> Iterator[list[Gpu]]:
    """The readings of every visible GPU in CUDA's order, each with its NVML index, again and again."""
    count = _count(nvml)
    instance = _instance(nvml, asked, count)  # the same as long as this process lives, even if its card is lost
    while True:
        if instance is None:
            yield _gpus(nvml, asked, count)
        else:
            yield [_gpu(nvml, instance.card, instance.number)]
        count = _count(nvml)


def _instance(nvml: Any, asked: str | None, count: int) -> mig.Instance | None:
    """The instance of a divided GPU that CUDA shows: the first one of those visible; None if GPUs are whole."""
    every = range(count)
    if asked is not None and asked.startswith("MIG-"):
        entry = asked.partition(",")[0].strip()
        found = mig.named(entry, mig.instances(nvml, every))
        if found is None:
            raise LookupError(f"no instance of a GPU is called {entry}, as CUDA_VISIBLE_DEVICES has it")
        return found
    return next(mig.instances(nvml, every if asked is None else _chosen(nvml, asked, count)), None)


def _gpus(nvml: Any, asked: str | None, count: int) -> list[Gpu]:
    """The readings of every visible GPU that is not divided."""
    chosen = list(range(count)) if asked is None else _chosen(nvml, asked, count)
    divided = mig.divided(nvml, chosen)
    if chosen == divided:
        raise LookupError("MIG divides the GPU, and it has no instance that this process may use")
    return [_gpu(nvml, index) for index in chosen if index not in divided]


def _count(nvml: Any) -> int:
    count = int(nvml.nvmlDeviceGetCount())
    if not count:
        raise LookupError("the driver knows no GPU")
    return count


def _chosen(nvml: Any, asked: str, count: int) -> list[int]:
    """The NVML indices that CUDA_VISIBLE_DEVICES asks for, in its order."""
    uuids = [_text(partial(_uuid, nvml, index)) if asked.startswith("GPU-") else "" for index in range(count)]
    chosen = visible(asked, uuids)
    if not chosen:
        raise LookupError(f"CUDA_VISIBLE_DEVICES leaves none of {count}")
    return chosen


def _uuid(nvml: Any, index: int) -> object:
    return nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetHandleByIndex(index))


def _gpu(nvml: Any, index: int, instance: int | None = None) -> Gpu:
    """The readings of a GPU, or of an instance of it."""
    try:
        card = handle = nvml.nvmlDeviceGetHandleByIndex(index)
        if instance is not None:
            handle = nvml.nvmlDeviceGetMigDeviceHandleByIndex(card, instance)
    except Exception as error:
        absent = f"{NOT_AVAILABLE}: {_reason(error)}"
        return {"index": index, "name": absent, "readings": dict.fromkeys(READINGS, absent)}
    of = {name: card if name in OF_THE_CARD else handle for name in READINGS}
    return {
        "index": index,
        "name": _text(partial(nvml.nvmlDeviceGetName, handle)),
        "capability": _text(partial(_capability, nvml, card)),
        "readings": {name: _text(partial(read, nvml, of[name])) for name, read in READINGS.items()},
    }


def _temperature(nvml: Any, handle: Any) -> object:
    """In °C; older drivers have only the old function, and drivers from CUDA 14 the new one."""
    try:
        return nvml.nvmlDeviceGetTemperatureV(handle, nvml.NVML_TEMPERATURE_GPU)
    except nvml.NVMLError:  # or the driver has the new one, but not for this GPU
        return nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)


def _capability(nvml: Any, handle: Any) -> object:
    """CUDA's compute capability, such as 8.6."""
    return ".".join(map(str, nvml.nvmlDeviceGetCudaComputeCapability(handle)))


def _watts(milliwatts: int) -> str:
    return f"{milliwatts / 1000:.1f}"


# Percent, bytes, °C and watts. Memory reserved by the driver counts as used: it is not available.
READINGS: Mapping[str, Callable[[Any, Any], object]] = {
    "utilization": lambda nvml, handle: nvml.nvmlDeviceGetUtilizationRates(handle).gpu,
    "memory_used": lambda nvml, handle: nvml.nvmlDeviceGetMemoryInfo(handle).used,
    "memory_total": lambda nvml, handle: nvml.nvmlDeviceGetMemoryInfo(handle).total,
    "temperature": _temperature,
    "power": lambda nvml, handle: _watts(nvml.nvmlDeviceGetPowerUsage(handle)),
    "power_limit": lambda nvml, handle: _watts(nvml.nvmlDeviceGetEnforcedPowerLimit(handle)),
}


OF_THE_CARD = {"temperature", "power", "power_limit"}  # even if it is divided into instances


def _text(read: Callable[[], object]) -> str:
    """A reading as text, or why there is none."""
    try:
        return str(read())
    except UnicodeDecodeError as error:  # the binding decodes every text as UTF-8
        return error.object.decode(errors="replace")
    except Exception as error:
        return f"{NOT_AVAILABLE}: {_reason(error)}"


def _reason(error: Exception) -> str:
    try:
        return str(error) or type(error).__name__
    except Exception:  # the binding asks NVML for the message, which may also fail
        return type(error).__name__


def _own_output() -> TextIO:
    """The standard output, reserved for our lines: anything a driver prints goes to standard error."""
    output = os.fdopen(os.dup(STDOUT), "w", encoding="ascii")
    os.dup2(STDERR, STDOUT)
    return output


def _exit_without_reader(output: int, parent: int) -> None:
    """Ends this process, even within a call to NVML, once its output has no reader or its parent has died."""
    poll = select.poll()
    poll.register(output, 0)  # errors are always reported
    while not poll.poll(PARENT_SECONDS * 1000) and os.getppid() == parent:
        pass
    os._exit(0)


def main(once: bool) -> None:
    """Prints the readings, once or until nobody reads them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))  # no core dumps
    output = _own_output()
    threading.Thread(target=_exit_without_reader, args=(output.fileno(), os.getppid()), daemon=True).start()
    for line in _lines():
        print(json.dumps(line), file=output, flush=True)
        if once:
            return
        time.sleep(INTERVAL_SECONDS if line["gpus"] else 0)


if __name__ == "__main__":
    with contextlib.suppress(OSError):  # no reader is left
        main("--once" in sys.argv[1:])
    os._exit(0)  # a driver that crashes or hangs while it is unloaded has already answered
