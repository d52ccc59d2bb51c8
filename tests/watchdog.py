"""Ends what tests leave running once pytest has ended, however it did: `python tests/watchdog.py PID START TOKEN`.

A run outlives the command that started it, by its design, and so it would outlive a pytest that was killed or aborted.
What tests start carries a token in its environment. The watchdog is nobody's child: tests look at, and end, theirs.
"""

import contextlib
import os
import secrets
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

TOKEN = "SFT_TUI_TESTS"
POLL_SECONDS = 0.5
ROUNDS = 20  # of looking for what is left: a process may start another while it is looked for


def begin() -> None:
    """Starts the watchdog of this process, and marks all that it starts from now on; once, and not in its workers."""
    if TOKEN in os.environ or not Path("/proc/self/stat").exists():
        return
    token, me = secrets.token_hex(16), os.getpid()
    silent = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
    words = [sys.executable, "-I", "-S", __file__, str(me), started(me), token]
    os.waitpid(os.posix_spawn(sys.executable, words, os.environ, file_actions=silent, setsid=True), 0)
    os.environ[TOKEN] = token


def started(pid: int) -> str:
    """When a process started, as the kernel has it; empty once it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def marked(token: str) -> Iterator[int]:
    """The processes that were started with the token in their environment."""
    mark = f"{TOKEN}={token}".encode()
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (place / "environ").read_bytes().split(b"\0"):
                yield int(place.name)


def watch(pid: int, start: str, token: str) -> None:
    """Waits until a process has ended, and ends what carries its token."""
    while started(pid) == start:
        time.sleep(POLL_SECONDS)
    for _ in range(ROUNDS):
        left = list(marked(token))
        for one in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        if not left:
            return
        time.sleep(POLL_SECONDS / 10)


if __name__ == "__main__":
    if os.fork():
        os._exit(0)
    watch(int(sys.argv[1]), *sys.argv[2:])
