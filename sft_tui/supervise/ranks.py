"""The processes of one attempt, one per rank, started directly so that the end of each is observed.

A launcher in between would hide how each rank ended, and would keep its own torch in memory: the ranks get the
environment that a launcher would give them (RANK, WORLD_SIZE, …) and rendezvous through a file.
"""

import contextlib
import ctypes
import os
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from engine.contract import environment
from engine.contract.child_command import module_command
from engine.contract.files import open_to_append
from engine.contract.machine.gpus import on_cpu
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir
from sft_tui.child_process import engine_environment, signal_of

MODULES = {"train": "engine.train", "test": "engine.test", "rehearse": "engine.rehearse"}
PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Exit:
    """How a rank ended: its exit code, negative for a signal; `asked` if we had signalled it."""

    rank: int
    code: int
    asked: bool

    @property
    def signal_name(self) -> str:
        """The signal that ended it; empty if none did."""
        return signal_of(self.code)


class Ranks:
    """All ranks of one attempt."""

    def __init__(self, run_dir: RunDir, record: RunRecord, attempt: int, lock_fd: int | None) -> None:
        self._run_dir, self._record, self._lock_fd = run_dir, record, lock_fd
        self._attempt = attempt
        self._rendezvous_file = Path(tempfile.gettempdir()) / f"sft-tui-{secrets.token_hex(8)}"
        self._signalled: set[int] = set()
        self.exits: list[Exit] = []
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Starts every rank; raises OSError if the system refuses to start one."""
        run_dir, record, lock_fd = self._run_dir, self._record, self._lock_fd
        env = {**trainer_environment(record, lock_fd), environment.ATTEMPT: str(self._attempt)}
        with os.fdopen(open_to_append(run_dir.trainer_output), "ab") as output:
            for rank in range(record.processes):
                self._processes.append(
                    subprocess.Popen(
                        module_command(MODULES[record.job], str(run_dir.path)),
                        env={**env, **self._place(rank, record.processes)},
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        pass_fds=() if lock_fd is None else (lock_fd,),
                    )
                )

    def _place(self, rank: int, size: int) -> dict[str, str]:
        if size == 1:
            return {}
        meeting = f"file://{self._rendezvous_file}"
        if not on_cpu(size):  # accelerate passes rank and size to torch on the CPU only
            meeting += f"?rank={rank}&world_size={size}"
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
        return {**{name: str(value) for name, value in place.items()}, environment.RENDEZVOUS: meeting}

    @property
    def pids(self) -> list[int]:
        """The pid of every rank, in order of rank."""
        return [process.pid for process in self._processes]

    def running(self) -> list[int]:
        """The ranks that have not ended, as of the last `reap`."""
        gone = {exit.rank for exit in self.exits}
        return [rank for rank in range(len(self._processes)) if rank not in gone]

    def reap(self) -> list[Exit]:
        """The ranks that ended since the last call."""
        new = [
            Exit(rank, code, rank in self._signalled)
            for rank in self.running()
            if (code := self._processes[rank].poll()) is not None
        ]
        self.exits += new
        return new

    def signal(self, number: int, ranks: Sequence[int] | None = None) -> None:
        """Sends a signal to the running ranks, or some of them; their death by it is then attributed to us."""
        for rank in self.running() if ranks is None else ranks:
            process = self._processes[rank]
            if process.poll() is not None:  # by itself, since the last `reap`
                continue
            if number in (signal.SIGKILL, signal.SIGTERM):
                self._signalled.add(rank)
            process.send_signal(number)

    def stopped(self, rank: int) -> bool:
        """Whether a rank is suspended by a signal."""
        try:
            return bool(psutil.Process(self._processes[rank].pid).status() == psutil.STATUS_STOPPED)
        except psutil.Error:
            return False

    def clean_up(self, spared: Sequence[int], deadline: float = 10.0) -> None:
        """Kills processes that the ranks left behind and removes the rendezvous file.

        `spared` are our own children, and with them what they start.
        """
        end = time.monotonic() + deadline
        while time.monotonic() < end:
            kept = {*spared, *(pid for own in spared for pid in _descendants(own))}
            left = [p for p in psutil.Process().children(recursive=True) if p.pid not in kept]
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            for process in left:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(process.pid, os.WNOHANG)
            if not left:
                break
            time.sleep(0.02)
        self._rendezvous_file.unlink(missing_ok=True)


def _descendants(pid: int) -> list[int]:
    """The pids of what a process has started, and of what that has."""
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return []


def adopt_orphans() -> None:
    """Makes this process the parent of orphaned descendants, so that no process of a run escapes it."""
    with contextlib.suppress(OSError, AttributeError):  # not Linux
        prctl: Callable[..., Any] = ctypes.CDLL(None, use_errno=True).prctl
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def trainer_environment(record: RunRecord, lock_fd: int | None) -> dict[str, str]:
    """The environment of a rank whose parent is this process; `lock_fd` is that of the output folder's lock."""
    passed = engine_environment(record.processes)
    env = {name: value for name, value in passed.items() if not name.startswith("ACCELERATE_")}
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        env.pop(name, None)
    env["PYTHONUNBUFFERED"] = "1"
    env["TOKENIZERS_PARALLELISM"] = "true"
    env[environment.SUPERVISOR] = str(os.getpid())
    if lock_fd is not None:
        env[environment.LOCK_FD] = str(lock_fd)
    if on_cpu(record.processes):
        env["ACCELERATE_USE_CPU"] = "true"
    return env
