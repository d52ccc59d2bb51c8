"""A conversation at the terminal, with lines typed by a test."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.contract.conversing import Ended, Piece, Replied, Reset, System, Undo
from engine.contract.messages import InputError
from engine.contract.texts import Lang
from sft_tui.cli.terminal_chat import chat
from tests.terminal import terminal

Spoken = Iterator[Piece | Replied]
Typing = Callable[..., str]


class Talk:
    """In place of a conversation: repeats each turn in two pieces, and notes what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[object] = []
        self.alive = True
        self.stopped = False
        self.turns = 4

    def say(self, text: str) -> Spoken:
        """Repeats it; some words have their effects."""
        self.asked.append(text)
        if text == "refuse":
            raise InputError("prompt_not_text", number=1)
        if text == "die":
            self.alive = False
            raise InputError("conversation_ended", why="SIGKILL")
        yield Piece(text[:1] + "\x1b[31m")
        if text == "interrupt":
            os.kill(os.getpid(), signal.SIGINT)
        yield Piece(text[1:] + "\n好")
        ended: Ended = "stopped" if self.stopped else "length" if text == "long" else "end"
        yield Replied(text, ended, 7, 0.1, 40, 2 if text == "old" else 0, text == "wide")

    def stop(self) -> None:
        """Notes it."""
        self.stopped = True

    def change(self, request: object) -> int:
        """Notes it."""
        self.asked.append(request)
        return 3


@pytest.fixture
def talk() -> Talk:
    return Talk()


@pytest.fixture
def typing(talk: Talk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typing:
    """Holds a conversation in which these lines are typed; returns all that was printed."""

    def hold(*lines: str | type[BaseException], lang: Lang = "en") -> str:
        left: list[Any] = [*lines, EOFError]

        def typed(_prompt: str) -> str:
            line = left.pop(0)
            if not isinstance(line, str):
                raise line
            return line

        monkeypatch.setattr("builtins.input", typed)
        held: Any = talk
        chat(held, "model", lang)
        assert left == []
        found = capsys.readouterr()
        return found.out + found.err

    return hold


def test_turns_are_said_and_replies_printed_harmlessly(talk: Talk, typing: Typing) -> None:
    shown = typing("hello", "", "  ")
    assert talk.asked == ["hello"]
    assert "h␛[31mello\n好\n" in shown
    assert "\x1b" not in shown


def test_commands_change_the_conversation(talk: Talk, typing: Typing) -> None:
    shown = typing("/system  You are terse. ", "/system", "/undo", "/reset", "/help")
    assert talk.asked == [System("You are terse."), System(""), Undo(), Reset()]
    assert "3 turns before this one" in shown
    for name in ("/system", "/undo", "/reset", "/help", "Ctrl-D"):
        assert name in shown


def test_without_a_turn_there_is_none_to_take_back(talk: Talk, typing: Typing) -> None:
    talk.turns = 0
    assert "no turn to take back" in typing("/undo")
    assert talk.asked == []


def test_words_of_notes_are_not_broken(typing: Typing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    shown = typing("/elsewhere").splitlines()
    assert max(map(len, shown)) <= 30
    assert "type a space before it." in " ".join(shown)


def test_a_slash_can_be_said_after_a_space(talk: Talk, typing: Typing) -> None:
    shown = typing("/etc/passwd\x1b[31m?", " /etc/passwd?")
    assert talk.asked == [" /etc/passwd?"]
    assert "There is no /etc/passwd␛[31m?" in shown


@pytest.mark.parametrize(
    ("said", "note"),
    [("long", "cut at 7 tokens"), ("old", "the oldest 2 turns"), ("wide", "cut at 40 tokens"), ("hello", "")],
)
def test_what_a_reply_lacks_is_said_after_it(typing: Typing, said: str, note: str) -> None:
    shown = typing(said)
    assert ("(" in shown) == bool(note)
    assert note in shown


def test_an_interrupt_stops_the_reply_and_not_the_conversation(talk: Talk, typing: Typing) -> None:
    usual = signal.getsignal(signal.SIGINT)
    shown = typing("interrupt", "hello")
    assert talk.stopped
    assert "stopped after 7 tokens" in shown
    assert talk.asked == ["interrupt", "hello"]
    assert signal.getsignal(signal.SIGINT) is usual


def test_an_interrupt_while_typing_says_how_to_end(talk: Talk, typing: Typing) -> None:
    assert "Ctrl-D ends the conversation." in typing(KeyboardInterrupt, "hello")
    assert talk.asked == ["hello"]


def test_a_refused_turn_is_explained_and_another_can_be_said(talk: Talk, typing: Typing) -> None:
    shown = typing("refuse", "hello")
    assert "not text" in shown
    assert talk.asked == ["refuse", "hello"]


def test_the_end_of_the_process_ends_the_conversation(talk: Talk, typing: Typing) -> None:
    with pytest.raises(InputError, match="SIGKILL"):
        typing("die", "hello")
    assert talk.asked == ["die"]


def test_a_chinese_user_reads_chinese(typing: Typing) -> None:
    shown = typing("/help", "long", lang="zh")
    assert "结束对话" in shown
    assert "在 7 个词元处截断" in shown


LOADING = """
import os, sys
from engine.contract.conversing import Piece
from sft_tui import conversation

class Talk:
    def __init__(self, *_, **__):
        os.mkfifo("loaded")
        open("loaded").close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def say(self, text):
        yield Piece(f"<{text}>")

conversation.Conversation = Talk
from sft_tui.cli.main import main
main()
"""


# The second locale is one that hardly any machine has installed.
@pytest.mark.parametrize(("locale", "loading"), [("C.UTF-8", "Loading"), ("zh_MO.UTF-8", "正在加载")])
def test_a_terminal_says_that_it_loads_and_takes_chinese(tmp_path: Path, locale: str, loading: str) -> None:
    (tmp_path / "config.json").write_text("{}")
    program = [sys.executable, "-c", LOADING, "reply", "--model", "."]
    with terminal(tmp_path, program=program, size=(60, 20), LC_ALL=locale, PYTHONUTF8="1") as app:
        app.sees(loading)
        app.until((tmp_path / "loaded").is_fifo)
        (tmp_path / "loaded").open("w").close()
        app.sees("Ctrl-D")
        assert loading not in app.text
        app.until(lambda: app.text.rstrip().endswith("\n>"))  # before it, the terminal itself edits the line
        app.press("你们好\x7f呢\r")
        app.sees("<你们呢>")
        app.press("\x04")
        assert app.wait() == 0
