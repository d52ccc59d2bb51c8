"""A model is loaded for a conversation, or the reason why not is given."""

import shutil
from pathlib import Path

import pytest

from engine.contract.conversing import Open, Opened, Replied
from engine.contract.messages import InputError
from engine.replying.opening import LONGEST_PROMPT, opened
from tests.engine.data.chat.kinds import KINDS
from tests.engine.models.causal.small import model


def test_an_opened_conversation_says_what_it_is_with(folder: str) -> None:
    conversation, answer = opened(Open(folder, "系统", 5))
    assert answer == Opened("t5", "pairs", LONGEST_PROMPT)
    assert (conversation.system, conversation.longest) == ("系统", 5)


def test_a_missing_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        opened(Open(str(tmp_path / "missing")))
    assert refused.value.message.code == "reply_missing"


def test_a_system_text_that_is_not_text_is_refused(folder: str) -> None:
    with pytest.raises(InputError, match="not text"):
        opened(Open(folder, "a\ud800"))


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small causal model with random weights, and a tokenizer that has a chat template."""
    folder = tmp_path_factory.mktemp("chat")
    tokenizer = KINDS["qwen2.5"].template().tokenizer
    tokenizer.save_pretrained(folder)
    net = model("qwen2", vocab_size=300, max_position_embeddings=128)
    net.config.eos_token_id = net.generation_config.eos_token_id = tokenizer.eos_token_id
    net.save_pretrained(folder)
    return folder


def test_a_chat_model_is_asked_by_its_template(chat_model: Path) -> None:
    conversation, answer = opened(Open(str(chat_model), "Be terse.", 16))
    assert answer == Opened("causal", "chat", 128 - 16)
    *_, first = conversation.say("hello")
    *_, second = conversation.say("hello")
    assert isinstance(first, Replied)
    assert isinstance(second, Replied)
    expected = conversation.tokenizer.apply_chat_template(
        [{"role": "system", "content": "Be terse."}, {"role": "user", "content": "hello"}],
        add_generation_prompt=True,
        return_dict=False,
    )
    assert first.prompt_tokens == len(expected)
    assert second.prompt_tokens > first.prompt_tokens


def test_a_long_chat_leaves_room_for_its_reply(chat_model: Path) -> None:
    conversation, answer = opened(Open(str(chat_model), max_new_tokens=10_000))
    assert (answer.positions, conversation.longest) == (64, 64)
    conversation.longest = 20
    found = [one for _ in range(5) for one in conversation.say("hello there") if isinstance(one, Replied)]
    assert found[-1].left_out > 0
    assert all(one.prompt_tokens <= 64 for one in found)


def test_a_chat_model_without_a_template_is_offered_one(chat_model: Path, tmp_path: Path) -> None:
    shutil.copytree(chat_model, tmp_path / "bare")
    (tmp_path / "bare" / "chat_template.jinja").unlink()
    with pytest.raises(InputError) as refused:
        opened(Open(str(tmp_path / "bare")))
    assert refused.value.message.code == "chat_template_missing"
    assert "--chat_template chatml" in refused.value.message.fix()
    conversation, _ = opened(Open(str(tmp_path / "bare"), chat_template="chatml", max_new_tokens=2))
    assert list(conversation.say("hello"))
