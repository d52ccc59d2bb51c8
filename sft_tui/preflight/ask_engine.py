"""Asks a process of the engine what foreign files hold; a crash of that process is also an answer."""

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, Self

from engine.contract.bounds import Count, Made, read_as
from engine.contract.child_command import module_command
from engine.contract.config import RunConfig
from engine.contract.messages import InputError, Message
from engine.contract.requests import Request, request_line
from sft_tui.child_process import engine_environment, signal_of
from sft_tui.text import safe

COMMAND = module_command("engine.inspect")
LONGEST_ANSWER = 1 << 28  # bytes
LAST_WORDS, SHOWN = 4000, 200  # bytes of its standard error that are read, and characters that are shown
# How Python, C, C++ and Rust report that memory, or the address space, is exhausted.
NO_MEMORY = re.compile(
    r"MemoryError|cannot allocate memory|can't allocate memory|bad_alloc|failed to map|can't start new thread"
    r"|memory allocation|out of memory|resource temporarily unavailable",
    re.IGNORECASE,
)
SILENT_SECONDS = 60.0  # a reader that is silent for this long is given up
Progress = Callable[[str, int, int], None]  # setting, rows done, rows in all


class InspectorDied(Exception):  # not an error of ours, but a finding
    """The process ended without an answer; holds what it was reading, how it ended, and the cause.

    `cause` is "memory" if it ran out of memory or was killed as if it had, "crash" if a reader crashed or hung, which
    means a corrupt or malicious file, and "failed" if it exited by itself, which is not the file's fault.
    """

    def __init__(self, doing: str, why: str, cause: str) -> None:
        self.doing, self.why, self.cause = doing, why, cause
        super().__init__(f"{doing}: {why}")

    def error(self, config: RunConfig, otherwise: str) -> InputError:
        """The error for a command; `otherwise` is what was being read if the process never reported it."""
        path = str(getattr(config, self.doing, self.doing)) or otherwise
        return InputError(f"reader_{self.cause}", path=path, why=self.why)


def nothing(_setting: str, _done: int, _total: int) -> None:
    """Ignores the progress."""


def ask(request: Request, kind: type[Made], progress: Progress = nothing) -> Made:
    """The facts of a task; raises InputError if there are none, and InspectorDied."""
    with Inspector() as inspector:
        return inspector.ask(request, kind, progress)


class Inspector:
    """A process of the engine that answers one question after another; it is killed when the block ends."""

    def __init__(self, command: Sequence[str] = ()) -> None:
        self._command = command or COMMAND

    def __enter__(self) -> Self:
        """Starts the process."""
        self._noise = tempfile.TemporaryFile()
        self._partial = b""
        self._child = subprocess.Popen(
            self._command,
            env=engine_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._noise,
            start_new_session=True,
            bufsize=0,
        )
        return self

    def kill(self) -> None:
        """Kills the process, also while another thread waits for its answer, which is then that it died."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)

    def __exit__(self, *_: object) -> None:
        """Kills the process."""
        self.kill()
        self._child.wait()
        for file in (self._child.stdin, self._child.stdout, self._noise):
            if file is not None:
                file.close()

    def ask(self, request: Request, kind: type[Made], progress: Progress = nothing) -> Made:
        """The facts of a task; raises InputError if there are none, and InspectorDied."""
        assert self._child.stdin
        with contextlib.suppress(BrokenPipeError):  # it has died, which is found below
            _write_all(self._child.stdin.fileno(), request_line(request))
        return self._listen(kind, progress)

    def _listen(self, kind: type[Made], progress: Progress) -> Made:
        assert self._child.stdout
        doing, heard = "", time.monotonic()
        while True:
            ready, _, _ = select.select([self._child.stdout], [], [], 1.0)
            data = os.read(self._child.stdout.fileno(), 1 << 16) if ready else None
            if data == b"":
                raise _died(doing, self._child.wait(), _last_line(self._noise))
            if data is None and time.monotonic() - heard > SILENT_SECONDS:
                raise InspectorDied(doing, f"no answer for {SILENT_SECONDS:.0f} s", "crash")
            if data:
                heard = time.monotonic()
                *lines, self._partial = (self._partial + data).split(b"\n")
                if len(self._partial) > LONGEST_ANSWER:
                    raise InspectorDied(doing, f"an answer of more than {LONGEST_ANSWER >> 20} MB", "failed")
                for line in lines:
                    try:
                        said = _parsed(line)
                        if "facts" in said:
                            return read_as(kind, said["facts"])
                        news = read_as(_News, said)
                    except (TypeError, ValueError, OverflowError, RecursionError) as error:
                        why = f"its answer cannot be used: {safe(str(error), SHOWN)}"
                        raise InspectorDied(doing, why, "failed") from None
                    if news.error is not None:
                        raise InputError(news.error.code, **news.error.args)
                    doing = doing if news.doing is None else news.doing
                    progress(doing, news.done, news.total)


@dataclass(frozen=True)
class _News:
    """A line that comes before the facts: what is being read and how far it is; or why there are none."""

    doing: str | None = None
    done: Count = 0
    total: Count = 0
    error: Message | None = None


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _parsed(line: bytes) -> Mapping[str, Any]:
    """A line of the answer; {} for one that a library printed."""
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _last_line(noise: IO[bytes]) -> str:
    """The last line on the process's standard error, which names the error of a traceback."""
    noise.seek(max(0, noise.seek(0, os.SEEK_END) - LAST_WORDS))
    lines = noise.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else ""


def _died(doing: str, code: int, said: str) -> InspectorDied:
    end = signal_of(code) or f"exit code {code}"
    why = f"{end}: {safe(said, SHOWN)}" if said else end
    if code == -signal.SIGKILL or NO_MEMORY.search(said):
        return InspectorDied(doing, why, "memory")
    return InspectorDied(doing, why, "crash" if code < 0 else "failed")
