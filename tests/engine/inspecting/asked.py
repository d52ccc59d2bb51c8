"""Asks the inspecting process, as the app does."""

import json
import os
import tempfile
from typing import Any

from engine.contract.config import RunConfig, to_json
from tests import forked_inspector

ROWS = [("你好", "你好！"), ("今天天气怎么样？", "今天天气很好。"), ("谢谢", "不客气")]


def answer(task: str, config: RunConfig, **more: Any) -> dict[str, Any]:
    """The facts that the process gives, which is forked; `tests/engine/test_inspect.py` starts it."""
    request = json.dumps({"task": task, "asker": os.getpid(), "config": to_json(config), **more})
    forked_inspector.prepare()
    with tempfile.TemporaryFile() as errors:
        process = forked_inspector.fork(errors.fileno(), dict(os.environ))
    with process.stdin, process.stdout:
        os.write(process.stdin.fileno(), request.encode() + b"\n")
        process.stdin.close()
        with open(process.stdout.fileno(), closefd=False) as answers:
            lines = [json.loads(line) for line in answers]
    process.wait()
    facts: dict[str, Any] = lines[-1].get("facts", lines[-1])
    return facts
