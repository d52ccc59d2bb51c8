"""Asks a process of the engine what foreign files hold: whatever happens to it is an answer."""

import contextlib
import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

from engine.contract.config import RunConfig, to_json
from sft_tui.child import module_command

COMMAND = module_command("engine.survey")
SILENT_SECONDS = 60.0  # a reader that says nothing for so long is given up
Progress = Callable[[str, int, int], None]  # setting, rows done, rows in all


class ProbeDied(Exception):  # not an error of ours: it is a finding
    """The process ended without an answer; carries what it was reading and how it ended."""

    def __init__(self, doing: str, why: str) -> None:
        self.doing, self.why = doing, why
        super().__init__(f"{doing}: {why}")


def nothing(_setting: str, _done: int, _total: int) -> None:
    """Tells nobody."""


def ask(task: str, config: RunConfig, progress: Progress = nothing, **more: Any) -> dict[str, Any]:
    """The facts of a task, {"error": …} where it cannot be done; raises ProbeDied."""
    request = json.dumps({"task": task, "config": to_json(config), **more}).encode()
    with tempfile.TemporaryFile() as noise, tempfile.TemporaryFile() as given:
        given.write(request)
        given.seek(0)
        child = subprocess.Popen(
            COMMAND, stdin=given, stdout=subprocess.PIPE, stderr=noise, start_new_session=True, bufsize=0
        )
        try:
            return _listen(child, progress)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            if child.stdout:
                child.stdout.close()


def _listen(child: "subprocess.Popen[bytes]", progress: Progress) -> dict[str, Any]:
    assert child.stdout
    doing, partial, heard = "", b"", time.monotonic()
    while True:
        ready, _, _ = select.select([child.stdout], [], [], 1.0)
        data = os.read(child.stdout.fileno(), 1 << 16) if ready else None
        if data == b"":
            raise ProbeDied(doing, _end_in_words(child.wait()))
        if data is None and time.monotonic() - heard > SILENT_SECONDS:
            raise ProbeDied(doing, f"no answer for {SILENT_SECONDS:.0f} s")
        if data:
            heard = time.monotonic()
            *lines, partial = (partial + data).split(b"\n")
            for line in lines:
                said = _parsed(line)
                if "facts" in said:
                    facts: dict[str, Any] = said["facts"]
                    return facts
                doing = str(said.get("doing", doing))
                progress(doing, int(said.get("done", 0)), int(said.get("total", 0)))


def _parsed(line: bytes) -> Mapping[str, Any]:
    try:
        said = json.loads(line)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _end_in_words(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"
