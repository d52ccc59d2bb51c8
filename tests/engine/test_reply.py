import io
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from engine import reply
from engine.contract.messages import InputError


@pytest.fixture
def folder(taught_t5: Path, tiny_tokenizer: Path, tmp_path: Path) -> str:
    """A model with its tokenizer, as a run publishes its best."""
    shutil.copytree(taught_t5, tmp_path / "best")
    shutil.copytree(tiny_tokenizer, tmp_path / "best", dirs_exist_ok=True)
    return str(tmp_path / "best")


def test_the_model_replies_what_it_learned(folder: str) -> None:
    assert reply.replies(folder, ["一加一等于几？", "再见"], 8) == ["二。", "再见！"]


def test_a_reply_does_not_depend_on_other_prompts(folder: str) -> None:
    prompts = ["再见", "今天天气怎么样？", "what is the capital of France?", "早"]
    assert reply.replies(folder, prompts, 12) == [reply.replies(folder, [prompt], 12)[0] for prompt in prompts]


def test_replies_end_at_the_requested_length(folder: str) -> None:
    assert reply.replies(folder, ["北京是哪个国家的首都？"], 3) == ["北京是"]


def test_invalid_text_refuses_the_prompt_not_the_tokenizer(folder: str) -> None:
    with pytest.raises(InputError, match="Prompt 2 is not text"):
        reply.replies(folder, ["你好", "a\udcff"], 4)


@pytest.mark.parametrize("prompt", ["", " ", "𠮷\u0000\x1b[31m", "长" * 2000])
def test_any_prompt_gets_a_reply(folder: str, prompt: str) -> None:
    assert len(reply.replies(folder, [prompt], 4)) == 1


def test_a_missing_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        reply.replies(str(tmp_path / "missing"), ["你好"], 4)
    assert refused.value.message.code == "reply_missing"


@pytest.mark.parametrize("there", [True, False])
def test_questions_and_replies_are_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: str, there: bool
) -> None:
    monkeypatch.setattr(reply, "end_with", lambda _asker: None)  # this process outlives it
    asked: dict[str, Any] = {"asker": os.getpid()}
    asked |= {"model": folder if there else folder + "-missing", "prompts": ["再见"], "max_new_tokens": 8}
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(asked)))
    code = reply.main()
    answered = json.loads(capsys.readouterr().out)
    if there:
        assert (code, answered) == (0, ["再见！"])
    else:
        assert (code, answered["code"]) == (2, "reply_missing")
