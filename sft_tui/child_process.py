"""A child process that runs one of our modules: its environment, and the signal that ended it."""

import os
import signal

# Variables that the engine's libraries read when they are loaded.
LIBRARY_SETTINGS = {
    # Threads that spin while waiting take the core from the thread they wait for as soon as anything else runs on it:
    # with two other jobs on two cores a step took 10 s with spinning threads and 1 s with sleeping ones.
    "OMP_WAIT_POLICY": "PASSIVE",
    # But a thread that sleeps at once is slow to wake for the next of many small pieces of work: a step in bf16 on an
    # idle machine took 0.44 s, and 0.32 s if GNU's OpenMP polls this many times first, which takes microseconds.
    "GOMP_SPINCOUNT": "1000",
    # oneDNN and its binding in torch each cache code and buffers for a thousand shapes, and with rows of every length
    # each step adds new ones: in bf16 a model of 11 M parameters took 1.6 GB after 50 steps, and 0.7 GB with these
    # limits, at the same speed within 3 %.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "16",
    "LRU_CACHE_CAPACITY": "16",
    # glibc raises these two by itself, to the size of the largest block freed so far and to twice that. If they start
    # at its maximum, the blocks of a step are not returned and faulted in again: a fifth fewer page faults.
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
}


def engine_environment(processes: int = 1) -> dict[str, str]:
    """The environment of a process that loads torch, one of `processes` at once; what the user has set stays."""
    from psutil import cpu_count  # which most commands never load

    allowed = len(os.sched_getaffinity(0))
    cores = min(cpu_count(logical=False) or allowed, allowed)
    placed = {"OMP_NUM_THREADS": str(max(1, cores // processes)), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}  # as NVML orders
    return {**LIBRARY_SETTINGS, **placed, **os.environ}


def signal_of(code: int) -> str:
    """The name of the signal that ended a process, from its exit code in subprocess; empty if it exited by itself."""
    if code >= 0:
        return ""
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
