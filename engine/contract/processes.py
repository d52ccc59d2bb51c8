"""Processes as files name them, and those of a run's attempt."""

import os
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Self

from engine.contract import environment
from engine.contract.bounds import Attempt, Between, as_json
from engine.contract.durable import read_json_as, write_json
from engine.contract.rundir import RunDir

Pid = Annotated[int, Between(0, 2**31 - 1)]


@dataclass(frozen=True)
class ProcessId:
    """A process, distinguished from a later one with the same pid by its start time and the boot it belongs to.

    A pid of 0 stands for a process that is not known.
    """

    pid: Pid = 0
    start: str = ""
    boot: str = ""

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """The process that has `pid` now; None if there is none, or if the system does not report its start time."""
        fields = _status_of(pid)
        return None if not fields or fields[0] == "Z" else cls(pid, fields[19], boot_id())

    def alive(self) -> bool:
        """Whether this very process still runs; a zombie does not."""
        return self.pid != 0 and ProcessId.of(self.pid) == self


def _status_of(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat after the process name: state, parent, …; [] if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def parent_of(pid: int) -> int:
    """The pid of a process's parent; 0 if there is no such process."""
    fields = _status_of(pid)
    return int(fields[1]) if fields else 0


def boot_id() -> str:
    """The id of this boot of the machine; empty if the system does not report one."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def host_name() -> str:
    """The name of this machine in messages and locks; it may not be unique."""
    return os.environ.get(environment.NODE) or socket.gethostname()


@dataclass(frozen=True)
class AttemptProcesses:
    """The processes of a run's newest attempt; what it says about a process proves nothing."""

    attempt: Attempt = 0  # 0: none has begun
    supervisor: ProcessId = ProcessId()
    ranks: list[ProcessId] = field(default_factory=list)


def read_processes(run_dir: RunDir) -> AttemptProcesses:
    """The processes that a run's supervisor recorded; none if the file is missing or invalid."""
    return read_json_as(AttemptProcesses, run_dir.processes)


def write_processes(run_dir: RunDir, processes: AttemptProcesses) -> None:
    """Records the processes of an attempt; raises OSError."""
    write_json(run_dir.processes, as_json(processes))
