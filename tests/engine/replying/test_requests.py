"""Requests are read while a reply is generated."""

import io
import os
from collections.abc import Iterator

import pytest

from engine.contract.conversing import Reset, Say, Spoken, Stop, line_of
from engine.replying.requests import Requests


@pytest.fixture
def pipe() -> Iterator[tuple[int, Requests]]:
    """An end to write lines to, and their reader."""
    end, start = os.pipe()
    with open(end, "rb") as lines:
        yield start, Requests(lines)
        os.close(start)


def ask(start: int, *spoken: Spoken) -> None:
    os.write(start, b"".join(map(line_of, spoken)))


def test_requests_come_in_their_order_up_to_the_end() -> None:
    lines = b"".join(map(line_of, (Say("a"), Stop(), Reset(), Say("b"))))
    assert list(Requests(io.BytesIO(lines))) == [Say("a"), Reset(), Say("b")]


def test_a_stop_ends_the_reply_asked_for_before_it_and_no_later_one(pipe: tuple[int, Requests]) -> None:
    start, requests = pipe
    ask(start, Say("a"), Stop(), Say("b"))
    asked = iter(requests)
    next(asked)
    while not requests.stopped():  # the thread may not have read that far
        pass
    assert next(asked) == Say("b")
    assert not requests.stopped()


def test_a_stop_that_comes_late_stops_nothing(pipe: tuple[int, Requests]) -> None:
    start, requests = pipe
    ask(start, Say("a"))
    asked = iter(requests)
    next(asked)
    assert not requests.stopped()
    ask(start, Stop(), Say("b"))
    next(asked)
    assert not requests.stopped()


@pytest.mark.parametrize("line", [b"{}\n", b"\xff\n", b"x" * 100])
def test_what_no_app_says_ends_the_conversation(line: bytes) -> None:
    requests = Requests(io.BytesIO(line_of(Say("a")) + line + line_of(Say("b"))))
    assert list(requests) == [Say("a")]
    assert requests.stopped()
