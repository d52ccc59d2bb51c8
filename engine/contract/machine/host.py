"""Readings of the machine during a run: GPUs, memory, CPU, disk, and the kernel's out-of-memory kills.

Nothing here blocks or raises: a failed reading must not disturb a training.
"""

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from engine.contract import events
from engine.contract.durable import free_bytes
from engine.contract.harmless import harmless
from engine.contract.machine import gpus, other_gpus
from engine.contract.messages import Message
from engine.contract.stream import EventWriter

NOT_READ_YET = "not read yet"
NO_GPUS = (NOT_READ_YET, *gpus.NO_GPUS)
SAMPLE_SECONDS = 2.0  # between two readings
SILENT_SECONDS = 10.0  # the child writes five lines in this time
STARTS = 4  # of the child: the first and three replacements
CLOSE_SECONDS = 2.0
READ_BYTES, MOST_READS = 64 * 1024, 16

# What psutil raises if a file of /proc is missing, may not be read, or does not have the expected format.
UNREADABLE = (OSError, ValueError, LookupError, TypeError, RuntimeError, psutil.Error)

PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
# Limit, use, and the part of the use that is inactive file cache: cgroup v2, then v1.
LIMIT_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


@dataclass(frozen=True)
class Watched:
    """The machine whose readings are taken, and the processes of the run on it.

    `disk` is a path on the file system whose free space is reported; `ranks` are the numbers of the processes, without
    which they are 0, 1, …; `number` is 0 for rank 0's machine, and `node` its name if there are several.
    """

    disk: Path
    ranks: tuple[int, ...] = ()
    number: int = 0
    node: str = ""

    def named(self, *parts: str) -> str:
        """Some parts of its name in brackets, with the machine's own if there are several; empty without any."""
        found = ", ".join((*parts, *([self.node] if self.node else [])))
        return f" ({found})" if found else ""


class Readings:
    """The readings of host and GPUs, each written to the stream of a run when it is taken."""

    def __init__(self, log: EventWriter, watched: Watched) -> None:
        self._log, self._watched = log, watched
        self._host, self._gpus, self._reported = HostReader(), GpuReader(), False
        self._mentioned = False
        self._names: dict[int, str] = {}  # of the GPUs that answer

    def take(self, pids: Sequence[int]) -> events.Host:
        """Writes the current readings; returns that of the host, which has the memory of these processes."""
        watched = self._watched
        of_machine: dict[str, Any] = {"machine": watched.number, "node": watched.node}
        reading = replace(self._host.read(pids, watched.disk), ranks=list(watched.ranks), **of_machine)
        found = [replace(gpu, **of_machine) for gpu in self._gpus.poll()]
        self._mention_others()
        for event in (reading, *found, *self._losses(found)):
            self._log.write(event)
        why = self._gpus.why
        if why and not why.startswith(NO_GPUS) and not self._reported:  # a machine without a driver needs no warning
            self._reported = True
            self._log.write(events.Warning(Message.of("gpu_unreadable", why=why + watched.named())))
        return reading

    def _mention_others(self) -> None:
        """A notice of GPUs that this torch cannot use, once, if NVML has none that it can."""
        if self._mentioned or self._gpus.why in ("", NOT_READ_YET):
            return
        self._mentioned = True
        if not gpus.cpu_requested() and (makers := other_gpus.unusable()):
            self._log.write(events.Notice(Message.of("gpu_unseen", makers=makers + self._watched.named())))

    def _losses(self, found: Sequence[events.Gpu]) -> list[events.Warning]:
        """A warning for each GPU that answered before and is lost now, once."""
        gone = [gpu.index for gpu in found if gpu.lost and gpu.index in self._names]
        named = (f"{one}{self._watched.named(self._names.pop(one))}" for one in gone)
        said = [events.Warning(Message.of("gpu_lost", gpu=gpu)) for gpu in named]
        self._names |= {gpu.index: harmless(gpu.name) for gpu in found if not gpu.lost}
        return said

    def close(self) -> None:
        """Stops reading the GPUs, in 2 s at most."""
        self._gpus.close()

    def unreaped(self) -> list[int]:
        """The pids of killed children that the driver still holds in the kernel."""
        return self._gpus.unreaped()


class Monitor:
    """Takes the readings of a machine of a run without a supervisor in a thread, from `start` until `stop`."""

    def __init__(self, events_file: Path, attempt: int, pids: Sequence[int], watched: Watched) -> None:
        self._pids, self._over = pids, threading.Event()
        self._log = EventWriter(events_file, f"monitor{watched.number or ''}", attempt)
        self._readings = Readings(self._log, watched)
        self._thread = threading.Thread(target=self._take, name="monitor", daemon=True)

    def start(self) -> None:
        """Starts the thread, which soon takes the first reading."""
        self._thread.start()

    def stop(self) -> None:
        """Stops taking readings; returns when none is in progress, in 4 s at most."""
        self._over.set()
        self._thread.join(CLOSE_SECONDS)
        self._readings.close()

    def _take(self) -> None:
        while not self._over.is_set():
            self._readings.take(self._pids)
            self._over.wait(SAMPLE_SECONDS)


class GpuReader:
    """The GPUs, read by a child that is replaced when it crashes or hangs, at most three times."""

    def __init__(self) -> None:
        self.why = NOT_READ_YET  # why there are no readings; empty if there are some
        self._starts, self._reported = STARTS, False
        self._child: subprocess.Popen[bytes] | None = None
        self._killed: list[subprocess.Popen[bytes]] = []  # a driver may hold one in the kernel for a long time
        self._start()

    def poll(self) -> list[events.Gpu]:
        """The newest reading of each GPU since the last call; empty if there was none."""
        self._killed = [child for child in self._killed if child.poll() is None]
        if self._child is None and self._starts:
            self._start()
        if self._child is None:
            return []
        code = self._child.poll()  # before its output is read, so that the output is complete
        found = self._listen(self._child)
        if self._reported:
            self._drop(self.why)
        elif code is not None:
            self._drop(_describe_exit(code))
        elif self._silent >= SILENT_SECONDS:
            self._drop(gpus.SILENT)
        return found

    def close(self) -> None:
        """Kills and reaps the child, in 2 s at most."""
        self._starts = 0
        self._drop(self.why)
        deadline = time.monotonic() + CLOSE_SECONDS
        for child in self._killed:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(max(0.0, deadline - time.monotonic()))

    def unreaped(self) -> list[int]:
        """The pids of killed children that the driver still holds in the kernel."""
        return [child.pid for child in self._killed if child.poll() is None]

    def _start(self) -> None:
        self._starts -= 1
        self._partial, self._silent, self._polled_at = b"", 0.0, time.monotonic()
        try:
            self._child = subprocess.Popen(
                gpus.command(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
            )
        except OSError as error:
            self.why = error.strerror or str(error)
            return
        assert self._child.stdout
        os.set_blocking(self._child.stdout.fileno(), False)

    def _listen(self, child: "subprocess.Popen[bytes]") -> list[events.Gpu]:
        """Parses the last complete line; earlier lines are too old to count as current."""
        now = time.monotonic()
        # If both sides were suspended together, both were silent for that time; so one call is not enough to decide.
        self._silent += min(now - self._polled_at, SILENT_SECONDS / 2)
        self._polled_at = now
        *lines, self._partial = (self._partial + _available(child)).split(b"\n")
        if not lines:
            return []
        self._silent = 0.0
        found, self.why = _parse(lines[-1])
        if self.why:  # another child would report the same
            self._starts, self._reported = 0, True
        return found

    def _drop(self, why: str) -> None:
        """Kills the child and records `why` as the reason for missing readings."""
        child, self._child = self._child, None
        if child is None:
            return
        self.why = why
        child.kill()
        if child.stdout:
            child.stdout.close()
        self._killed.append(child)


def _available(child: "subprocess.Popen[bytes]") -> bytes:
    """What can be read of its output without waiting."""
    assert child.stdout
    data = b""
    for _ in range(MOST_READS):
        try:
            more = os.read(child.stdout.fileno(), READ_BYTES)
        except BlockingIOError:
            break
        if not more:
            break
        data += more
    return data


def _parse(line: bytes) -> tuple[list[events.Gpu], str]:
    try:
        body = json.loads(line)
        found = [events.event_from_json("gpu", gpu) for gpu in body["gpus"]]
        return [gpu for gpu in found if isinstance(gpu, events.Gpu)], str(body["why"])
    except (ValueError, LookupError, TypeError):
        return [], "the reading of the GPUs is not understood"  # the reader is an older app than the child


def _describe_exit(code: int) -> str:
    if code >= 0:
        return f"the reading of the GPUs ended with exit code {code}"
    with contextlib.suppress(ValueError):
        return f"the driver crashed ({signal.Signals(-code).name})"
    return f"the driver crashed (signal {-code})"


class HostReader:
    """Memory, CPU and disk of the machine, or of the container if that has less."""

    def __init__(self, proc: Path = PROC, cgroups: Path = CGROUPS) -> None:
        self._folders = _cgroup_folders(proc, cgroups)
        _cpu_percent()  # the next call measures from here

    def read(self, pids: Sequence[int], disk: Path) -> events.Host:
        """One reading, with the processes in the order given and the file system of `disk`; 0 for unknown values."""
        total, available = self._memory()
        return events.Host(total, available, [_resident(pid) for pid in pids], _cpu_percent(), _free(disk))

    def _memory(self) -> tuple[int, int]:
        """Total and available bytes, the smallest of the machine's and of every cgroup above this process."""
        try:
            memory = psutil.virtual_memory()
        except UNREADABLE:
            return 0, 0
        total, available = int(memory.total), int(memory.available)
        for limit, used in filter(None, map(_limit, self._folders)):
            if limit < memory.total:  # v1 expresses "no limit" as a number larger than any machine
                total, available = min(total, limit), min(available, max(0, limit - used))
        return total, available


def _cgroup_folders(proc: Path, cgroups: Path) -> list[Path]:
    """The memory cgroups of this process, its own first; a container may see only its own, as the topmost."""
    folders: list[Path] = []
    for line in _read(proc / "self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            mounts = [cgroups, cgroups / "unified"]
        else:
            mounts = [cgroups / "memory"] if "memory" in controllers.split(",") else []
        below = Path(os.path.normpath(f"/{path.lstrip('/')}")).relative_to("/")
        folders += [mount / part for mount in mounts for part in (below, *below.parents)]
    return [folder for folder in dict.fromkeys(folders) if _is_folder(folder)]


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _limit(folder: Path) -> tuple[int, int] | None:
    """The limit of a cgroup and its use without inactive file cache, in bytes; None if it has no limit."""
    for limit_file, use_file, idle in LIMIT_FILES:
        limit, use = _read(folder / limit_file).strip(), _read(folder / use_file).strip()
        if limit.isdecimal() and use.isdecimal():
            return int(limit), max(0, int(use) - _field(folder / "memory.stat", idle))
    return None


def oom_kills(proc: Path = PROC, cgroups: Path = CGROUPS) -> int:
    """The number of out-of-memory kills by the kernel so far; 0 if unknown.

    The machine's count includes a cgroup's kills, so the sum of both would count them twice; but a sandbox may hide the
    machine's count or keep it at 0, which leaves only the count of our own cgroup: so the higher of the two.
    """
    counts = [_field(proc / "vmstat", "oom_kill")]
    for folder in _cgroup_folders(proc, cgroups):
        counts += [_field(folder / name, "oom_kill") for name in ("memory.events", "memory.oom_control")]
    return max(counts)


def _resident(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except UNREADABLE:
        return 0


def _cpu_percent() -> float:
    try:
        return float(psutil.cpu_percent())
    except UNREADABLE:
        return 0.0


def _free(disk: Path) -> int:
    try:
        return free_bytes(disk)
    except OSError:
        return 0


def _field(path: Path, name: str) -> int:
    """The number after `name` in a file of names and numbers; 0 if there is none."""
    for line in _read(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.strip().isdecimal():
            return int(value)
    return 0


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
