"""Replies come from a process of the engine; its refusals and its crashes are reported."""

import json
import subprocess
from typing import Any

import pytest

from engine.contract.messages import InputError
from sft_tui.replies import replies


def answering(code: int, printed: str, asked: list[Any]) -> Any:
    """In place of the process: takes what it is asked, and ends with this."""

    def run(_command: list[str], *, input: str, **_how: object) -> subprocess.CompletedProcess[str]:
        asked.append(json.loads(input))
        return subprocess.CompletedProcess([], code, printed)

    return run


def test_each_prompt_has_its_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(subprocess, "run", answering(0, '["one", "two"]', asked))
    assert replies("model", ["1", "2"], 7) == ["one", "two"]
    assert (asked[0]["model"], asked[0]["prompts"], asked[0]["max_new_tokens"]) == ("model", ["1", "2"], 7)


@pytest.mark.parametrize("printed", ["", "Traceback", "[]", '{"code": 3}'])
def test_a_process_that_crashes_is_reported(monkeypatch: pytest.MonkeyPatch, printed: str) -> None:
    monkeypatch.setattr(subprocess, "run", answering(-9, printed, []))
    with pytest.raises(InputError) as refused:
        replies("model", ["1"], 7)
    assert refused.value.message.code == "engine_failed"
    assert "engine.reply" in refused.value.message.text("en")
