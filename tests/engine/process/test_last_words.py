import os
import threading
from collections.abc import Iterator

import pytest

from engine.process import last_words
from engine.process.last_words import LastWords
from tests.engine.process.timers import Timers
from tests.processes import until

LIMIT = 120.0  # seconds


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The exit codes of a process that would have ended."""
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    yield codes
    until(lambda: codes != [], LIMIT)  # while it is replaced


@pytest.fixture
def timers(monkeypatch: pytest.MonkeyPatch) -> Timers:
    found = Timers()
    monkeypatch.setattr(threading, "Timer", found)
    return found


def test_a_process_ends_in_time_and_says_why(
    left: list[int], timers: Timers, capfd: pytest.CaptureFixture[str]
) -> None:
    words = LastWords()
    words.end_within(0.1, "too early")
    words.end_within(0.1, "rank 1 is silent \x1b[31m")
    timers.run_out()
    assert left == [1]
    assert capfd.readouterr().err == "rank 1 is silent ␛[31m\n"


def test_what_was_said_is_not_said_again(left: list[int], timers: Timers, capfd: pytest.CaptureFixture[str]) -> None:
    words = LastWords()
    words.end_within(0.1, "unknown")
    words.say("rank 1 is silent")
    timers.run_out()
    assert left == [1]
    assert capfd.readouterr().err == "rank 1 is silent\n"


def test_an_output_that_takes_nothing_does_not_keep_a_process(left: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be a file on the machine that is gone."""
    stuck = threading.Event()
    monkeypatch.setattr(last_words, "SAY_SECONDS", 0.1)
    monkeypatch.setattr(last_words, "harmless", lambda _: stuck.wait(LIMIT))
    words = LastWords()
    words.end_within(0.1, "rank 1 is silent")
    until(lambda: left == [1], LIMIT)
    stuck.set()
