"""Commands run to their end in processes of their own, bounded in time, of which nothing is left afterwards."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from engine.contract.durable import read_json_as
from engine.contract.locks import LOCK_NAME, holder_of, is_locked
from engine.contract.processes import AttemptProcesses, ProcessId

LIMIT = 240.0  # seconds; the longest of these takes about twenty on two cores

SFT_TUI = (sys.executable, "-c", "from sft_tui.cli.main import main; main()")


@dataclass(frozen=True)
class Result:
    """A command that ended."""

    code: int
    out: str
    err: str


def run(*command: str, folder: Path, env: Mapping[str, str] = {}, limit: float = LIMIT) -> Result:
    """Runs `command` in `folder` to its end, in English unless `env` says otherwise."""
    out, err = folder / ".stdout", folder / ".stderr"
    with out.open("wb") as out_file, err.open("wb") as err_file:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "LC_ALL": "C.UTF-8", **env},
            stdin=subprocess.DEVNULL,
            stdout=out_file,
            stderr=err_file,
            start_new_session=True,
        )
        try:
            code = process.wait(limit)
        finally:
            kill_tree(process)
    return Result(code, out.read_text(errors="replace"), err.read_text(errors="replace"))


def kill_tree(process: "subprocess.Popen[bytes]") -> None:
    """Kills a process, if it still runs, and all it started: a trainer is in a session of its own."""
    if process.poll() is None:
        first = psutil.Process(process.pid)
        for one in (first, *first.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
    process.wait()


def until(condition: Callable[[], bool], limit: float = LIMIT) -> None:
    """Returns when `condition` holds; fails when it does not within `limit` seconds."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def gone(pid: int) -> bool:
    """Whether a process has ended, also if nobody has asked how."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def options(settings: Mapping[str, object]) -> list[str]:
    """Settings as options of a command line."""
    return [f"--{name}={value}" for name, value in settings.items()]


def end_runs(folder: Path) -> None:
    """Kills what is left of the runs below `folder`, their supervisors too, which are nobody's children."""
    locks = [path.parent for path in folder.rglob(LOCK_NAME)]
    found = [read_json_as(AttemptProcesses, path) for path in folder.rglob("processes.json")]
    signed = [holder_of(place) for place in locks]  # one that has not yet recorded its processes
    ranks = [rank for each in found for rank in each.ranks]
    for process in (*(one.process for one in signed), *(each.supervisor for each in found), *ranks):
        if process.pid != os.getpid():
            _end(process)
    for place in locks:  # a rank that was not recorded exits when it sees that its supervisor is dead
        if holder_of(place).pid != os.getpid():
            until(lambda place=place: not is_locked(place), 90)  # type: ignore[misc]


def _end(process: ProcessId) -> None:
    """Kills this very process, and returns when it is gone."""
    if process.alive():
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(process.pid, 0)
    until(lambda: not process.alive(), 20)
