"""Forks the inspecting process from one that has already imported everything, which takes most of a check's time."""

import multiprocessing
import os
import sys
import tempfile
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from unittest.mock import patch

from sft_tui.child_process import engine_environment
from sft_tui.preflight.ask_engine import Inspector

CONTEXT = multiprocessing.get_context("forkserver")
LONG = 60.0  # seconds


def prepare() -> None:
    """Starts the process to fork from, in the folder of the project."""
    CONTEXT.set_forkserver_preload(["tests.imported"])
    forkserver.ensure_running()


@dataclass
class Forked:
    """What an Inspector uses of subprocess.Popen."""

    process: BaseProcess
    stdin: Connection
    stdout: Connection

    @property
    def pid(self) -> int:
        """The process, and its group."""
        assert self.process.pid
        return self.process.pid

    def wait(self) -> int:
        """Waits for its end; the exit code, or minus the signal."""
        self.process.join(LONG)
        assert self.process.exitcode is not None
        return self.process.exitcode


def begin(inspector: Inspector) -> Inspector:
    """Replaces `Inspector.__enter__`."""
    inspector._noise, inspector._partial = tempfile.TemporaryFile(), b""  # noqa: SIM115
    inspector._child = fork(inspector._noise.fileno(), engine_environment())  # type: ignore[assignment]
    return inspector


def fork(errors: int, environment: dict[str, str]) -> Forked:
    """An inspecting process that has begun; `errors` is where its standard error goes."""
    asked, stdin = CONTEXT.Pipe(duplex=False)
    stdout, answers = CONTEXT.Pipe(duplex=False)
    begun, ready = CONTEXT.Pipe(duplex=False)
    noise = Connection(os.dup(errors), readable=False)
    ends = (asked, answers, noise, ready)
    process = CONTEXT.Process(target=_inspect, args=(*ends, os.getcwd(), environment), daemon=True)
    process.start()
    for end in ends:
        end.close()
    with begun:
        begun.recv_bytes()
    return Forked(process, stdin, stdout)


def _inspect(
    asked: Connection,
    answers: Connection,
    noise: Connection,
    ready: Connection,
    folder: str,
    environment: dict[str, str],
) -> None:
    from engine import inspect

    os.setsid()
    for place, end in enumerate((asked, answers, noise)):
        os.dup2(end.fileno(), place)
        end.close()
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - multiprocessing has closed it
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    with patch.object(inspect, "end_with"):  # it expects the asker to be its parent
        ready.send_bytes(b"ready")
        ready.close()
        sys.exit(inspect.main())
