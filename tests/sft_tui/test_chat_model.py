"""A model of a chat, with a process that replies by a rule in place of the engine's."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine.contract.conversing import Replied, Sampling
from engine.contract.messages import InputError, Message
from sft_tui import chat_memory, chat_model, conversation
from sft_tui.chat_model import ChatModel, ChatState, Exchange, Settings
from tests.sft_tui.fake_replies import CHILD


def until(holds: Callable[[], object], seconds: float = 30.0) -> None:
    """Waits until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.fixture
def replying(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "module_command", lambda _module: [sys.executable, "-c", CHILD])


@pytest.fixture
def model(replying: None, tmp_path: Path) -> Iterator[ChatModel]:
    del replying
    made = ChatModel(str(tmp_path), "tuned", Settings())
    made.start()
    yield made
    made.close()


def refuse(folder: str) -> None:
    """Refuses every model."""
    raise InputError("reply_missing", path=folder)


def ready(model: ChatModel) -> ChatState:
    """Its state once nothing is awaited."""
    until(lambda: model.state.state in ("ready", "ended") and not model.state.busy)
    return model.state


def replies(model: ChatModel) -> list[str]:
    """The replies of its conversation."""
    return [one.reply for one in ready(model).turns]


def test_turns_of_a_conversation_know_the_earlier_ones(model: ChatModel) -> None:
    model.say("a")
    assert replies(model) == ["0::a"]
    model.say("b")
    assert replies(model) == ["0::a", "1::b"]
    assert model.state.speed == 8.0
    assert model.state.memory > 0


def test_a_turn_can_be_said_before_the_model_is_loaded(model: ChatModel) -> None:
    model.say("a")
    assert model.state.busy
    assert replies(model) == ["0::a"]


def test_a_reply_is_generated_again_in_the_same_place(model: ChatModel) -> None:
    for said in "ab":
        model.say(said)
        ready(model)
    model.settings = Settings("terse")
    model.again()
    assert replies(model) == ["0::a", "1:terse:b"]


def test_a_new_conversation_knows_nothing(model: ChatModel) -> None:
    model.say("a")
    ready(model)
    model.new()
    model.say("b")
    assert replies(model) == ["0::b"]


def test_the_temperature_reaches_the_process(model: ChatModel) -> None:
    model.settings = Settings(sampling=Sampling(0.7))
    model.say("a")
    assert replies(model) == ["0:0.7:a"]


def test_a_stopped_reply_counts_as_far_as_it_came(model: ChatModel) -> None:
    model.say("slow")
    until(lambda: "slow..." in model.state.turns[-1].reply)
    model.stop()
    (reply,) = replies(model)
    assert reply.startswith("0::slow...")
    model.say("a")
    assert replies(model)[1] == "1::a"


def test_a_turn_that_waits_for_the_model_can_be_taken_back(model: ChatModel) -> None:
    model.say("slow")
    if model.state.state in ("waiting", "loading"):
        model.stop()
    else:
        until(lambda: model.state.turns[-1].reply)
        model.stop()
    assert ready(model).state == "ready"
    model.say("a")
    assert replies(model)[-1].endswith("::a")


@pytest.mark.parametrize("to", [conversation.Conversation.change, conversation.Conversation.say], ids=["change", "say"])
@pytest.mark.parametrize("alone", [False, True])
def test_a_stop_at_any_moment_of_a_reply_stops_it(
    model: ChatModel, monkeypatch: pytest.MonkeyPatch, to: Callable[..., Any], alone: bool
) -> None:
    """Also before the process has been asked for the reply."""

    def stop_before(*given: object) -> object:
        monkeypatch.setattr(conversation.Conversation, to.__name__, to)
        model.stop()
        return to(*given)

    until(lambda: model.state.state == "ready")
    monkeypatch.setattr(conversation.Conversation, to.__name__, stop_before)
    found: list[Replied | Message] = []
    model.alone("slow", found.append) if alone else model.say("slow")
    until(lambda: found or (model.state.turns and not model.state.pending))
    assert ready(model).state == "ready"


@pytest.mark.parametrize("key", ["new", "again"])
def test_a_key_at_the_very_end_of_a_reply_counts(model: ChatModel, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    hear, said = ChatModel._hear, list[str]()

    def heard(one: ChatModel, *given: Any) -> None:
        hear(one, *given)
        if not one.state.busy:
            reply = one.state.turns[-1].reply
            if not said:
                getattr(one, key)()
            said.append(reply)

    monkeypatch.setattr(ChatModel, "_hear", heard)
    model.say("a")
    until(lambda: said)
    if key == "new":
        model.say("b")
    until(lambda: len(said) == 2)
    assert said == ["0::a", "0::b" if key == "new" else "0::a"]


def test_a_turn_whose_reply_has_not_begun_can_be_taken_back(model: ChatModel) -> None:
    ready(model)
    held = threading.Event()
    model._jobs.put(lambda: [held.wait(30)].clear())
    model.say("slow")
    model.stop()
    held.set()
    assert model.state.turns == ()
    model.say("a")
    assert replies(model) == ["0::a"]


def test_a_turn_that_is_refused_is_shown_and_not_part_of_the_conversation(model: ChatModel) -> None:
    model.say("no")
    (one,) = ready(model).turns
    assert one.refused == Message("prompt_not_text", {"number": 1})
    model.say("a")
    assert replies(model) == ["", "0::a"]


def test_a_process_that_dies_is_replaced_and_takes_the_conversation_over(model: ChatModel) -> None:
    model.say("a")
    ready(model)
    first = model.pid
    model.say("b")
    ready(model)
    psutil.Process(first).kill()
    model.say("c")
    state = ready(model)
    assert state.fault is not None
    assert "SIGKILL" in state.fault.text("en")
    assert [one.reply for one in state.turns] == ["0::a", "1::b", ""]
    model.again()
    assert replies(model) == ["0::a", "1::b", "2::c"]
    assert model.pid != first


@pytest.mark.usefixtures("replying")
def test_a_model_that_does_not_fit_is_refused_with_both_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_memory, "available", lambda: 1_000_000)
    model = ChatModel("base", "base", Settings())
    model.start()
    fault = ready(model).fault
    assert fault is not None
    assert "1.00 MB" in fault.text("en")
    assert model.pid == 0
    monkeypatch.setattr(chat_memory, "available", lambda: 0)
    model.again()
    until(lambda: model.state.state == "ready")
    model.close()


@pytest.mark.usefixtures("replying")
def test_models_are_loaded_one_after_another(tmp_path: Path) -> None:
    first = ChatModel(str(tmp_path), "base", Settings())
    second = ChatModel(str(tmp_path), "tuned", Settings(), first)
    second.start()
    time.sleep(0.1)
    assert second.state.state == "waiting"
    first.start()
    until(lambda: second.state.state == "ready")
    for one in (first, second):
        one.close()


@pytest.mark.parametrize("said", [[], ["slow"]], ids=["idle", "replying"])
def test_the_process_ends_with_its_model(model: ChatModel, said: list[str]) -> None:
    for words in said:
        model.say(words)
        until(lambda: model.state.turns[-1].reply)
    until(lambda: model.pid)
    process = psutil.Process(model.pid)
    model.close()
    process.wait(10)


def test_a_prompt_of_its_own_knows_no_turn_and_changes_none(model: ChatModel) -> None:
    model.say("a")
    ready(model)
    found: list[Replied | Message] = []
    model.alone("x", found.append)
    model.alone("no", found.append)
    until(lambda: len(found) == 2)
    assert isinstance(found[0], Replied)
    assert found[0].text == "0::x"
    assert isinstance(found[1], Message)
    model.say("b")
    assert replies(model) == ["0::a", "1::b"]


def test_prompts_that_are_abandoned_are_not_answered(model: ChatModel) -> None:
    found: list[Replied | Message] = []
    for prompt in ("slow", "x", "y"):
        model.alone(prompt, found.append)
    until(lambda: model.state.state == "replying")
    model.abandon()
    until(lambda: model.state.state == "ready")
    model.say("a")
    assert replies(model) == ["0::a"]
    assert found == []


@pytest.mark.usefixtures("replying")
def test_what_a_prompt_of_its_own_cannot_be_asked_of_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_model, "require_room", refuse)
    model = ChatModel("x", "x", Settings())
    found: list[Replied | Message] = []
    model.start()
    model.alone("x", found.append)
    until(lambda: found)
    assert found == [Message("reply_missing", {"path": "x"})]
    model.say("a")
    until(lambda: model.state.pending)
    assert model.state.turns == (Exchange("a"),)
    assert not model.state.busy
    model.close()


def test_a_model_closed_before_it_was_loaded_keeps_no_other_waiting() -> None:
    first = ChatModel("a", "a", Settings())
    first.close()
    assert first.settled.wait(10)
