"""The program that holds a conversation, as a process."""

import os
import queue
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine import reply
from engine.contract.conversing import (
    Changed,
    Choice,
    History,
    Open,
    Opened,
    Piece,
    Refused,
    Replied,
    Reset,
    Sampling,
    Say,
    Spoken,
    System,
    Undo,
    line_of,
    read_line,
)
from engine.reply import answers
from engine.replying.opening import opened
from engine.replying.requests import Requests


@pytest.fixture(scope="module")
def folder(taught_t5: Path, tiny_tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model with its tokenizer, as a run publishes its best."""
    best = tmp_path_factory.mktemp("model")
    for path in (*taught_t5.iterdir(), *tiny_tokenizer.iterdir()):
        (best / path.name).write_bytes(path.read_bytes())
    return str(best)


class Process:
    """The program, asked a line at a time."""

    def __init__(self) -> None:
        command = [sys.executable, "-P", "-m", "engine.reply"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, request: Spoken) -> Spoken:
        """The last answer to a request."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line_of(request))
        self.process.stdin.flush()
        while isinstance(answer := read_line(self.process.stdout.readline()), Piece):
            pass
        return answer

    def end(self) -> int:
        """Its exit code, once its input has ended."""
        self.process.communicate(timeout=60)
        return self.process.returncode


@pytest.fixture
def process() -> Iterator[Process]:
    with ThreadPoolExecutor(1) as starting:  # the thread that starts it has ended before anything is asked
        started = starting.submit(Process).result()
    yield started
    started.process.kill()
    started.process.communicate()


def test_a_conversation_is_held_line_by_line(process: Process, folder: str) -> None:
    assert isinstance(process.ask(Open(folder)), Opened)
    first, second = process.ask(Say("再见")), process.ask(Say("再见"))
    assert isinstance(first, Replied)
    assert isinstance(second, Replied)
    assert (first.text, first.ended) == ("再见！", "end")
    assert second.prompt_tokens > first.prompt_tokens
    assert process.ask(Undo()) == process.ask(System("系统")) == Changed(1)
    assert process.ask(Reset()) == Changed(0)
    assert process.ask(History(("再见", "再见！"))) == Changed(1)
    assert process.ask(Choice(Sampling(), 1)) == Changed(1)
    short = process.ask(Say("再见"))
    assert isinstance(short, Replied)
    assert short.tokens == 1
    assert short.prompt_tokens > first.prompt_tokens
    assert isinstance(process.ask(Say("a\udcff")), Refused)
    assert process.end() == 0


def test_a_model_that_is_missing_is_the_only_answer(process: Process) -> None:
    refused = process.ask(Open("missing"))
    assert isinstance(refused, Refused)
    assert (refused.message.code, refused.fatal) == ("reply_missing", True)
    assert process.end() == 2


def test_a_process_that_nobody_listens_to_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    codes: queue.SimpleQueue[int] = queue.SimpleQueue()
    monkeypatch.setattr(reply, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(os, "_exit", codes.put)
    with open(os.devnull, "rb") as nothing:
        assert list(Requests(nothing, reply.end_soon)) == []
    assert codes.get(timeout=30) == 1  # the thread of the requests ends it


def test_the_end_of_its_input_stops_a_reply(folder: str) -> None:
    conversation, _ = opened(Open(folder))
    with open(os.devnull, "rb") as nothing:
        requests = Requests(nothing)
        assert list(requests) == []
        found: Iterator[Spoken] = answers(conversation, Say("再见"), requests)
        (replied,) = found
    assert isinstance(replied, Replied)
    assert (replied.ended, replied.tokens) == ("stopped", 0)
