"""The app's side of a conversation, with a process that answers by a script in place of the engine's."""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable

import pytest

from engine.contract.conversing import (
    Changed,
    Opened,
    Piece,
    Refused,
    Replied,
    Reset,
    Say,
    Spoken,
    Undo,
    line_of,
)
from engine.contract.messages import InputError, Message
from sft_tui import conversation
from sft_tui.conversation import Conversation

OPENED = Opened("t5", "pairs", 512)
REPLIED = Replied("yes!", "end", 3, 0.5)
CHILD = """
import json, sys, time
for kind, *answers in json.loads(sys.argv[1]):
    line = sys.stdin.buffer.readline()
    if not line:
        break
    asked = json.loads(line)["kind"]
    if asked != kind:
        sys.exit(f"asked {asked} in place of {kind}")
    for answer in answers:
        sys.stdout.write(answer)
    sys.stdout.flush()
"""
Talk = list[tuple[str, list[Spoken | str]]]  # what is asked, and what is answered to it
Answering = Callable[[Talk], None]


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Answering:
    """Has the process answer these requests so, and end."""

    def use(talk: Talk) -> None:
        lines = [
            [kind, *(one if isinstance(one, str) else line_of(one).decode() for one in answers)]
            for kind, answers in talk
        ]
        command = [sys.executable, "-c", CHILD, json.dumps(lines)]
        monkeypatch.setattr(conversation, "module_command", lambda _module: command)

    return use


def test_a_reply_comes_piece_by_piece(answering: Answering) -> None:
    answering([("open", [OPENED]), ("say", [Piece("ye"), Piece("s!"), REPLIED]), ("undo", [Changed(0)])])
    with Conversation("model") as talk:
        assert talk.opened == OPENED
        assert list(talk.say("?")) == [Piece("ye"), Piece("s!"), REPLIED]
        assert talk.turns == 1
        assert talk.change(Undo()) == talk.turns == 0


def test_a_model_that_cannot_be_used_is_refused_at_once(answering: Answering) -> None:
    answering([("open", [Refused(Message.of("reply_missing", path="x"), fatal=True)])])
    with pytest.raises(InputError) as refused:
        Conversation("x")
    assert refused.value.message.code == "reply_missing"
    assert refused.value.message.args == {"path": "x"}


def test_a_turn_that_is_refused_does_not_end_the_conversation(answering: Answering) -> None:
    refused = Refused(Message.of("prompt_not_text", number=1))
    answering([("open", [OPENED]), ("say", [refused]), ("say", [REPLIED]), ("reset", [Changed(0)])])
    with Conversation("model") as talk:
        with pytest.raises(InputError, match="not text"):
            talk.reply("\udcff")
        assert talk.reply("?") == REPLIED
        assert talk.change(Reset()) == 0


def test_a_reader_that_leaves_early_stops_the_reply(answering: Answering) -> None:
    stopped = Replied("ye", "stopped", 1, 0.1)
    answering([("open", [OPENED]), ("say", [Piece("ye")]), ("stop", [Piece("s"), stopped]), ("say", [REPLIED])])
    with Conversation("model") as talk:
        spoken = talk.say("?")
        assert next(spoken) == Piece("ye")
        spoken.close()  # type: ignore[attr-defined]
        assert talk.reply("?") == REPLIED
        assert talk.turns == 2


def test_another_thread_can_stop_a_reply(answering: Answering) -> None:
    stopped = Replied("ye", "stopped", 1, 0.1)
    answering([("open", [OPENED]), ("say", [Piece("ye")]), ("stop", [stopped])])
    with Conversation("model") as talk:
        spoken = talk.say("?")
        next(spoken)
        threading.Thread(target=talk.stop).start()
        assert list(spoken) == [stopped]


@pytest.mark.parametrize(
    "answers",
    [["\n"], ["[]\n"], ['{"kind": "shell"}\n'], ["not a line\n"], [OPENED], ['{"kind": "replied"}\n'], ["\x1b[31m\n"]],
    ids=repr,
)
def test_what_the_engine_never_says_ends_the_conversation(answering: Answering, answers: list[Spoken | str]) -> None:
    answering([("open", [OPENED]), ("say", answers), ("say", [])])
    with Conversation("model") as talk:
        with pytest.raises(InputError) as ended:
            talk.reply("?")
        assert ended.value.message.code == "conversation_ended"


def test_a_process_that_is_killed_ends_in_a_sentence(answering: Answering) -> None:
    answering([("open", [OPENED]), ("say", []), ("say", [])])
    with Conversation("model") as talk:
        assert talk.alive
        os.kill(talk._process.pid, signal.SIGKILL)
        with pytest.raises(InputError) as ended:
            talk.reply("?")
        assert "SIGKILL" in ended.value.message.what("en")
        assert not talk.alive
        with pytest.raises(InputError):
            talk.change(Undo())


def test_the_last_words_of_a_process_that_crashes_are_shown(answering: Answering) -> None:
    answering([("open", [OPENED]), ("undo", [])])
    with Conversation("model") as talk, pytest.raises(InputError, match="asked reset in place of undo"):
        talk.change(Reset())


def test_leaving_ends_the_process(answering: Answering) -> None:
    answering([("open", [OPENED]), ("say", [REPLIED])])
    with Conversation("model") as talk:
        process = talk._process
    assert process.poll() is not None


def in_a_thread(work: Callable[[], None]) -> None:
    other = threading.Thread(target=work)
    other.start()
    other.join()


@pytest.mark.parametrize("by", [lambda stop: stop(), in_a_thread], ids=["a handler", "another thread"])
def test_a_stop_does_not_cut_a_line_in_two(
    answering: Answering, monkeypatch: pytest.MonkeyPatch, by: Callable[[Callable[[], None]], None]
) -> None:
    stopped = Replied("", "stopped", 0, 0.1)
    answering([("open", [OPENED]), ("say", []), ("stop", [stopped])])
    with Conversation("model") as talk:

        def interrupted(request: Spoken) -> bytes:  # where the line is being written
            if request == Say("?"):
                by(talk.stop)
            return line_of(request)

        monkeypatch.setattr(conversation, "line_of", interrupted)
        assert list(talk.say("?")) == [stopped]


def test_a_stop_after_the_end_does_nothing(answering: Answering) -> None:
    answering([("open", [OPENED])])
    with Conversation("model") as talk:
        pass
    talk.stop()
