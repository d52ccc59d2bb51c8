"""The GPUs as NVML tells of them, read in a process of its own: `python -m sft_tui.machine.gpus [--once]`.

A missing, mismatched, crashing or hanging driver ends or holds up that process and nothing else. It prints one line of
JSON every 2 s, `{"gpus": [{"index", "name", "readings"}], "why": ""}`, or one with the reason why there are none, and
ends. Names and reasons are foreign text, and leave it as ASCII.
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
from functools import partial
from typing import Any, TextIO

from sft_tui.child import module_command

INTERVAL_SECONDS = 2.0
COUNT_SECONDS = 5.0  # a driver that takes longer to say how many there are would not serve a training either
REAP_SECONDS = 1.0
PARENT_SECONDS = 1.0
NOT_AVAILABLE = "N/A"
SILENT = "the driver does not answer"
# Beginnings of the reasons that are no fault: no driver (in NVML's own words), GPUs hidden.
NO_GPUS = ("NVML Shared Library Not Found", "CUDA_VISIBLE_DEVICES", "the driver knows no GPU")
STDOUT, STDERR = 1, 2

Gpu = dict[str, Any]


def command(*options: str) -> list[str]:
    """The command that prints the GPUs."""
    return module_command("sft_tui.machine.gpus", *options)


@functools.cache
def found() -> tuple[list[Gpu], str]:
    """The GPUs that a training can have, as they were when this was first asked, or why there are none.

    They are those that answer, and that CUDA_VISIBLE_DEVICES leaves.
    """
    try:
        child = subprocess.Popen(
            command("--once"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except OSError as error:
        return [], error.strerror or str(error)
    try:
        out, _ = child.communicate(timeout=COUNT_SECONDS)
        said = json.loads(out)
        return [gpu for gpu in said["gpus"] if _answers(gpu)], str(said["why"])
    except subprocess.TimeoutExpired:
        return [], SILENT
    except (ValueError, LookupError):
        return [], "the driver crashed"
    finally:
        _end(child)


def gpu_count() -> int:
    """How many GPUs a training can have."""
    return len(found()[0])


def free_memory() -> list[int | None]:
    """Bytes that are free on each GPU, in the order in which ranks take them; None where one does not tell."""
    readings = [gpu["readings"] for gpu in found()[0]]
    known = [(each["memory_total"], each["memory_used"]) for each in readings]
    return [int(total) - int(used) if total.isdigit() and used.isdigit() else None for total, used in known]


def fault() -> str:
    """Why the driver that is there tells of no GPU; empty where one answers, or where there is no driver."""
    why = found()[1]
    return "" if why.startswith(NO_GPUS) else why


def _end(child: "subprocess.Popen[bytes]") -> None:
    """Kills and reaps a child; one that the driver holds in the kernel cannot be waited for."""
    child.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(REAP_SECONDS)
    if child.stdout:
        child.stdout.close()


def _answers(gpu: Gpu) -> bool:
    """Whether a GPU says anything at all: NVML lists those too that are lost or another container's."""
    return any(not text.startswith(NOT_AVAILABLE) for text in (gpu["name"], *gpu["readings"].values()))


def cpu_asked() -> bool:
    """Whether ACCELERATE_USE_CPU says that the trainer is to use the CPU."""
    return os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "on")


def on_cpu(processes: int) -> bool:
    """Whether the CPU is to be named to the trainer: asked for, or several processes and no GPU that NVML knows.

    One process finds its device itself, which may be one that NVML does not know.
    """
    return cpu_asked() or (processes > 1 and gpu_count() == 0)


def visible(asked: str, uuids: Sequence[str]) -> list[int]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves, by their place in `uuids`, read as CUDA and torch read it.

    It names indices or beginnings of UUIDs, not both, ends at the first that is no GPU, and hides all where one is
    named twice.
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
    number = re.match(r"\+?[0-9]{1,9}", entry)  # CUDA takes the number that an entry begins with
    return int(number[0]) if number and int(number[0]) < len(uuids) else None


def _lines() -> Iterator[dict[str, Any]]:
    """What there is to say each time it is asked; the last is the reason why there are no GPUs."""
    asked = os.environ.get("CUDA_VISIBLE_DEVICES")
    try:
        if asked is not None and not re.match(r"GPU-|\s*\+?[0-9]", asked):
            raise LookupError("CUDA_VISIBLE_DEVICES names no GPU")  # the driver need not be asked
        import pynvml  # here, since whoever imports this module for the count does without

        pynvml.nvmlInit()
        while True:
            yield {"gpus": _gpus(pynvml, asked), "why": ""}
    except Exception as error:  # of NVML, of the binding, or of ours: whoever reads the line is to know
        yield {"gpus": [], "why": _reason(error)}


def _gpus(nvml: Any, asked: str | None) -> list[Gpu]:
    """The readings of every GPU that is visible, in CUDA's order, with the index that NVML gives it."""
    count = nvml.nvmlDeviceGetCount()
    if not count:
        raise LookupError("the driver knows no GPU")
    if asked is None:
        return [_gpu(nvml, index) for index in range(count)]
    uuids = [_text(partial(_uuid, nvml, index)) if asked.startswith("GPU-") else "" for index in range(count)]
    chosen = visible(asked, uuids)
    if not chosen:
        raise LookupError(f"CUDA_VISIBLE_DEVICES leaves none of {count}")
    return [_gpu(nvml, index) for index in chosen]


def _uuid(nvml: Any, index: int) -> object:
    return nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetHandleByIndex(index))


def _gpu(nvml: Any, index: int) -> Gpu:
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
    except Exception as error:
        absent = f"{NOT_AVAILABLE}: {_reason(error)}"
        return {"index": index, "name": absent, "readings": dict.fromkeys(READINGS, absent)}
    return {
        "index": index,
        "name": _text(partial(nvml.nvmlDeviceGetName, handle)),
        "readings": {name: _text(partial(read, nvml, handle)) for name, read in READINGS.items()},
    }


def _temperature(nvml: Any, handle: Any) -> object:
    """In °C; older drivers know the old function only, and those from CUDA 14 on the new one."""
    try:
        return nvml.nvmlDeviceGetTemperatureV(handle, nvml.NVML_TEMPERATURE_GPU)
    except nvml.NVMLError:  # or the driver knows the new one, but not for this GPU
        return nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)


def _watts(milliwatts: int) -> str:
    return f"{milliwatts / 1000:.1f}"


# Percent, bytes, °C and watts. What the driver keeps for itself counts as used: it cannot be had.
READINGS: Mapping[str, Callable[[Any, Any], object]] = {
    "utilization": lambda nvml, handle: nvml.nvmlDeviceGetUtilizationRates(handle).gpu,
    "memory_used": lambda nvml, handle: nvml.nvmlDeviceGetMemoryInfo(handle).used,
    "memory_total": lambda nvml, handle: nvml.nvmlDeviceGetMemoryInfo(handle).total,
    "temperature": _temperature,
    "power": lambda nvml, handle: _watts(nvml.nvmlDeviceGetPowerUsage(handle)),
    "power_limit": lambda nvml, handle: _watts(nvml.nvmlDeviceGetEnforcedPowerLimit(handle)),
}


def _text(read: Callable[[], object]) -> str:
    """A reading, or why there is none."""
    try:
        return str(read())
    except UnicodeDecodeError as error:  # the binding takes every text for UTF-8
        return error.object.decode(errors="replace")
    except Exception as error:
        return f"{NOT_AVAILABLE}: {_reason(error)}"


def _reason(error: Exception) -> str:
    try:
        return str(error) or type(error).__name__
    except Exception:  # the binding asks NVML for the words, which may fail in turn
        return type(error).__name__


def _own_output() -> TextIO:
    """The standard output for us alone: what a driver prints goes to standard error."""
    output = os.fdopen(os.dup(STDOUT), "w", encoding="ascii")
    os.dup2(STDERR, STDOUT)
    return output


def _end_unread(output: int, parent: int) -> None:
    """Ends this process, even within a call to NVML, once nobody can read its output or its parent has died."""
    poll = select.poll()
    poll.register(output, 0)  # errors are always told
    while not poll.poll(PARENT_SECONDS * 1000) and os.getppid() == parent:
        pass
    os._exit(0)


def main(once: bool) -> None:
    """Prints what there is, one time or until nobody reads it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))  # a driver's crash
    output = _own_output()
    threading.Thread(target=_end_unread, args=(output.fileno(), os.getppid()), daemon=True).start()
    for line in _lines():
        print(json.dumps(line), file=output, flush=True)
        if once:
            return
        time.sleep(INTERVAL_SECONDS if line["gpus"] else 0)


if __name__ == "__main__":
    with contextlib.suppress(OSError):  # nobody reads any more
        main("--once" in sys.argv[1:])
    os._exit(0)  # a driver that crashes or hangs as it is unloaded has already said what we wanted
