"""A model is loaded for a conversation, or the reason why not is given."""

from pathlib import Path

import pytest

from engine.contract.conversing import Open, Opened
from engine.contract.messages import InputError
from engine.replying.opening import LONGEST_PROMPT, opened


def test_an_opened_conversation_says_what_it_is_with(folder: str) -> None:
    conversation, answer = opened(Open(1, folder, "系统", 5))
    assert answer == Opened("t5", "pairs", LONGEST_PROMPT)
    assert (conversation.system, conversation.longest) == ("系统", 5)


def test_a_missing_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        opened(Open(1, str(tmp_path / "missing")))
    assert refused.value.message.code == "reply_missing"


def test_a_system_text_that_is_not_text_is_refused(folder: str) -> None:
    with pytest.raises(InputError, match="not text"):
        opened(Open(1, folder, "a\ud800"))
