"""Small programs run in processes of their own, started together where a test is about a race."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

LIMIT = 240  # seconds; what these programs do takes far less than one

# What every program begins with: `gate()` says that it is ready and waits until all are let go at once.
PRELUDE = """
import json, os, sys
from pathlib import Path
from engine.contract import durable, events, locks, rundir, stream
from engine.contract.messages import BusyError

def gate():
    print("ready", flush=True)
    sys.stdin.read()
"""

Program = subprocess.Popen[str]
TEXTS = ["中文", "😀", "a\nb", "\x1b[31m", "\u2028", '"', "\udce9", ""]


def ascii_start(value: object) -> str:
    """A name for a test with this value."""
    return ascii(value)[:72]


@pytest.fixture
def start() -> Iterator[Callable[..., Program]]:
    """Starts a program with arguments; returns once it stands at its gate, which is its standard input."""
    running: list[Program] = []

    def begin(source: str, *arguments: object, gate: int = subprocess.PIPE) -> Program:
        command = [sys.executable, "-c", PRELUDE + source, *map(str, arguments)]
        process = subprocess.Popen(command, stdin=gate, stdout=subprocess.PIPE, text=True)
        running.append(process)
        return process

    yield begin
    for process in running:
        with process:  # waits for it and closes its pipes
            process.kill()


@pytest.fixture
def together(start: Callable[..., Program]) -> Callable[..., list[str]]:
    """Runs programs, one for each list of arguments, let go at the same moment; returns what each printed."""

    def run(source: str, arguments: list[list[Any]]) -> list[str]:
        entrance, lock = os.pipe()
        processes = [start(source, *each, gate=entrance) for each in arguments]
        os.close(entrance)
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        os.close(lock)
        printed = [process.communicate(timeout=LIMIT)[0] for process in processes]
        assert [process.returncode for process in processes] == [0] * len(processes)
        return printed

    return run
