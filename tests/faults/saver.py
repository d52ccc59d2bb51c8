"""The other end of `saver_program`: gives orders and reads what is said, never longer than a limit."""

import json
import os
import platform
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pytest

from engine.contract.bounds import as_json
from engine.contract.outputdir import OutputDir
from tests.faults.saver_program import WHEN
from tests.faults.tiny import frozen_entry
from tests.processes import LIMIT, kill_tree

ROOT = Path(__file__).parents[2]


class Saver:
    """A process that forks children for orders; `before` is put in front of its command."""

    def __init__(self, model: Path, tokenizer: Path, folder: Path, before: Sequence[str] = ()) -> None:
        self._errors = folder / "saver.err"
        self._channel, theirs = socket.socketpair()
        with self._errors.open("wb") as errors, theirs:
            self._process = subprocess.Popen(
                (*before, sys.executable, "-m", "tests.faults.saver_program", str(model), str(tokenizer)),
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), "TOKENIZERS_PARALLELISM": "false"},
                stdin=subprocess.PIPE,
                stdout=theirs.fileno(),
                stderr=errors,
                start_new_session=True,
            )
        self._read = b""

    def __enter__(self) -> Self:
        self.expect("ready")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        kill_tree(self._process)
        self._process.stdin.close()
        self._channel.close()

    def order(self, order: Mapping[str, Any]) -> int:
        """Has an order begun; the child's pid."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        return int(self.expect("child").split()[1])

    def report_on(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Has an order carried out; what the child reported."""
        self.order(order)
        report: dict[str, Any] = json.loads(self.expect("{"))
        self.expect("ended 0")
        return report

    def ended(self) -> int:
        """The exit code of the child, which ended without a report."""
        return int(self.expect("ended").split()[1])

    def expect(self, beginning: str) -> str:
        """The next line, which begins so."""
        line = self.line()
        assert line.startswith(beginning), f"{line}\n{self._errors.read_text()}"
        return line

    def line(self, limit: float = LIMIT) -> str:
        """The next line; fails where none comes in time."""
        line = self.line_before(time.monotonic() + limit)
        assert line is not None, f"nothing was said for {limit} s\n{self._errors.read_text()}"
        return line

    def line_before(self, deadline: float) -> str | None:
        """The next line, if there is one before that moment of the monotonic clock."""
        while b"\n" not in self._read:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._channel], [], [], left)[0]:
                return None
            data = self._channel.recv(1 << 16)
            assert data, f"the saver is gone\n{self._errors.read_text()}"
            self._read += data
        line, self._read = self._read.split(b"\n", 1)
        return line.decode()


def running(request: pytest.FixtureRequest, *before: str) -> Iterator[Saver]:
    """A saver that runs under `before`, while tests need it."""
    model, tokenizer = (request.getfixturevalue(name) for name in ("tiny_t5", "tiny_tokenizer"))
    folder = request.getfixturevalue("tmp_path_factory").mktemp("saver")
    with Saver(model, tokenizer, folder, before) as saver:
        yield saver


def strace(*injections: str) -> list[str]:
    """A command in front of another: all its processes are traced, and the calls fail as requested."""
    calls = ",".join(rule.split(":")[0] for rule in injections)
    reported = [word for rule in injections for word in ("-e", f"inject={rule}:when={WHEN}")]
    fast = [] if "signal=" in injections[0] else ["--seccomp-bpf"]  # strace 6.1 sends no signals with it
    return ["strace", "-f", "-qq", *fast, "-o", "/dev/null", "-e", f"trace={calls}", *reported]


def strace_works() -> bool:
    """Whether there is an strace, and the system lets it trace."""
    if platform.machine() != "x86_64" or shutil.which("strace") is None:  # elsewhere there is no rename(2)
        return False
    return subprocess.run([*strace("fsync:error=EIO"), "true"], capture_output=True, check=False).returncode == 0


def order_for_third(output: OutputDir) -> dict[str, Any]:
    """The order to save step 3 next to the checkpoints of steps 1 and 2."""
    return {"do": "save", "step": 3, "acknowledged": [1, 2], "frozen": as_json(frozen_entry(output))}
