"""Turns and replies, by a model that learned a few of them by heart."""

import pytest

from engine.contract.conversing import Open, Piece, Replied, Sampling
from engine.contract.messages import InputError
from engine.replying.conversation import Conversation
from engine.replying.opening import opened
from engine.replying.sampling import Chooser


@pytest.fixture
def conversation(folder: str) -> Conversation:
    return opened(Open(folder, max_new_tokens=12))[0]


def reply(conversation: Conversation, text: str) -> Replied:
    """The account of a reply."""
    *pieces, replied = conversation.say(text)
    assert isinstance(replied, Replied)
    assert "".join(piece.text for piece in pieces if isinstance(piece, Piece)) == replied.text
    return replied


@pytest.mark.parametrize(("prompt", "expected"), [("一加一等于几？", "二。"), ("再见", "再见！")])
def test_the_model_replies_what_it_learned(conversation: Conversation, prompt: str, expected: str) -> None:
    replied = reply(conversation, prompt)
    assert (replied.text, replied.ended) == (expected, "end")
    assert conversation.turns == [prompt, expected]


def test_a_reply_comes_in_pieces(conversation: Conversation) -> None:
    assert len(list(conversation.say("再见"))) > 2


def test_a_reply_ends_at_the_requested_length(folder: str) -> None:
    conversation = opened(Open(folder, max_new_tokens=3))[0]
    replied = reply(conversation, "北京是哪个国家的首都？")
    assert (replied.text, replied.ended, replied.tokens) == ("北京是", "length", 3)


def test_a_reply_can_be_stopped_and_counts_as_far_as_it_came(conversation: Conversation) -> None:
    answers = iter([False, True])
    *_, replied = conversation.say("再见", lambda: next(answers))
    assert isinstance(replied, Replied)
    assert (replied.ended, replied.tokens) == ("stopped", 1)
    assert conversation.turns == ["再见", replied.text]


def test_earlier_turns_and_the_system_text_are_before_the_next_reply(conversation: Conversation) -> None:
    conversation.system = "你是助手。"
    first = reply(conversation, "再见")
    conversation.turns.clear()
    conversation.system = ""
    assert reply(conversation, "再见").prompt_tokens < first.prompt_tokens
    alone = reply(conversation, "再见").prompt_tokens
    assert reply(conversation, "再见").prompt_tokens > alone


def test_a_turn_that_is_taken_back_changes_nothing_after_it(conversation: Conversation) -> None:
    reply(conversation, "你好")
    expected = reply(conversation, "再见")
    conversation.undo()
    reply(conversation, "谢谢")
    conversation.undo()
    again = reply(conversation, "再见")
    assert (again.text, again.prompt_tokens) == (expected.text, expected.prompt_tokens)
    for _ in range(5):
        conversation.undo()
    assert conversation.turns == []


@pytest.mark.parametrize("prompt", ["", " ", "𠮷\u0000\x1b[31m", "长" * 2000])
def test_any_prompt_gets_a_reply(conversation: Conversation, prompt: str) -> None:
    assert reply(conversation, prompt).cut == (len(prompt) > 1000)


def test_what_cannot_be_said_leaves_the_conversation_as_it_was(conversation: Conversation) -> None:
    reply(conversation, "你好")
    before = list(conversation.turns)
    with pytest.raises(InputError, match="Prompt 2 is not text"):
        list(conversation.say("a\udcff"))
    assert conversation.turns == before


def test_a_long_conversation_loses_its_oldest_turns_and_says_so(conversation: Conversation) -> None:
    conversation.limit = 40
    found = [reply(conversation, "今天天气怎么样？") for _ in range(6)]
    assert found[0].left_out == 0
    assert found[-1].left_out > 0
    assert all(one.prompt_tokens <= 40 and not one.cut for one in found)


def test_a_seed_repeats_a_reply_at_a_temperature(folder: str) -> None:
    def drawn(seed: int) -> list[str]:
        conversation = opened(Open(folder, max_new_tokens=8, sampling=Sampling(3.0, seed=seed)))[0]
        return [reply(conversation, prompt).text for prompt in ("你好", "再见")]

    assert drawn(1) == drawn(1) != drawn(2)


def test_turns_of_another_conversation_take_the_place_of_these(conversation: Conversation) -> None:
    first = reply(conversation, "再见")
    second = reply(conversation, "再见")
    conversation.take(["再见", first.text, "half"])
    assert conversation.turns == ["再见", first.text]
    assert reply(conversation, "再见").prompt_tokens == second.prompt_tokens
    with pytest.raises(InputError, match="not text"):
        conversation.take(["a", "b", "\ud800", "c"])


def test_tokens_are_chosen_in_another_way_from_the_next_reply_on(conversation: Conversation) -> None:
    assert reply(conversation, "再见").ended == "end"
    drawn = []
    for _ in range(2):
        conversation.take([])
        conversation.choose_by(Chooser(Sampling(5.0, seed=3)), 4)
        drawn.append(reply(conversation, "再见").text)
    assert drawn[0] == drawn[1] != "再见！"
    assert reply(conversation, "再见").tokens <= 4
