"""The processes that a benchmark measures: each is one that it started, and ends with it."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

LIMIT_SECONDS = 3600.0  # for one process, unless its caller sets another
GONE_SECONDS = 10.0  # until a process that was killed has ended


def ended(command: list[str], env: dict[str, str], log: Path, limit: float = LIMIT_SECONDS) -> float:
    """The largest resident set, in MB, of a process that runs `command` to its end.

    Raises RuntimeError if it fails, and TimeoutError if it takes more than `limit` seconds, after which it is killed.
    """
    deadline = time.monotonic() + limit
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # to end it with all that it starts
        )
    try:
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                process.returncode = os.waitstatus_to_exitcode(status)
                break
            if time.monotonic() > deadline:
                raise TimeoutError(f"{command} took more than {limit:.0f} s")
            time.sleep(0.05)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):  # of one that is held by the driver of a GPU
                process.wait(GONE_SECONDS)
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}:\n{log.read_text(errors='replace')[-2000:]}")
    return usage.ru_maxrss * 1024 / 1e6


def raise_on_signals() -> None:
    """Makes requests to end raise KeyboardInterrupt, so that what was started is ended; not those that are ignored."""

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    for kind in (signal.SIGTERM, signal.SIGHUP):  # Python itself does it for SIGINT; nohup has SIGHUP ignored
        if signal.getsignal(kind) is signal.SIG_DFL:
            signal.signal(kind, interrupted)
