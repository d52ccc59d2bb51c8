"""A search in the whole stream of a run."""

import math
from pathlib import Path

import pytest

from engine.contract import events
from engine.contract.messages import Message
from engine.contract.rundir import RunDir
from sft_tui import log_search
from sft_tui.event_text import lines
from sft_tui.feed import Feed
from sft_tui.log_search import LogSearch
from sft_tui.run_state import RunState
from tests.sft_tui.conftest import EVAL, PLAN, STARTED, step
from tests.sft_tui.screen.conftest import write_run

WARNED = events.Warning(Message.of("gpu_unreadable", why="no driver"))
SAMPLE = events.Sample(1, 50, 0, "a prompt", "what it should be", "a reply")


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    reported = [STARTED, PLAN, *(step(number) for number in range(1, 1000)), EVAL, SAMPLE, WARNED, step(1000)]
    return write_run(tmp_path / "logs", "one", *reported)


def found(run_dir: RunDir, words: str, level: str = "notes") -> list[str]:
    search = LogSearch(run_dir, words, level, "en")
    while not search.is_over:
        search.read()
    assert [line.number for line in search.found] == sorted({line.number for line in search.found})
    return [line.text for line in search.found]


def test_lines_of_every_kind_are_found_whatever_their_case(run_dir: RunDir) -> None:
    assert ["no driver" in line for line in found(run_dir, "NO DRIVER", "warnings")] == [True]
    assert len(found(run_dir, "what it should be")) == 1
    assert found(run_dir, "what it should be", "warnings") == []
    assert found(run_dir, "nothing like it", "all") == []


def test_steps_are_searched_at_their_level_only(run_dir: RunDir) -> None:
    assert found(run_dir, "77/100  ") == []
    assert [line.split("/")[0] for line in found(run_dir, "77/100 ", "all")] == [
        str(number) for number in (77, 177, 277, 377, 477, 577, 677, 777, 877, 977)
    ]


def test_steps_are_not_decoded_for_words_they_cannot_have(run_dir: RunDir) -> None:
    assert not LogSearch(run_dir, "checkpoint", "all", "en")._steps
    assert LogSearch(run_dir, "NaN", "all", "en")._steps
    assert LogSearch(run_dir, "lr 5", "all", "en")._steps


def test_found_lines_have_the_numbers_of_those_held(run_dir: RunDir) -> None:
    feed = Feed(run_dir, "en")
    while feed.poll() or feed.reading:
        pass
    search = LogSearch(run_dir, "e", "all", "en")
    while not search.is_over:
        search.read()
    held = {line.number: line.text for line in feed.log.lines() if "e" in line.text.lower()}
    assert {line.number: line.text for line in search.found} == held


def test_a_search_keeps_a_bounded_number_of_lines(run_dir: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_search, "MOST_FOUND", 50)
    monkeypatch.setattr(log_search, "PIECE_BYTES", 4096)
    assert len(found(run_dir, "0", "all")) == 50


def test_a_torn_last_line_is_left_out(run_dir: RunDir) -> None:
    with run_dir.events.open("ab") as stream:
        stream.write(b'{"kind":"warning","torn')
    assert len(found(run_dir, "driver")) == 1


def test_a_run_without_a_stream_has_no_hits(tmp_path: Path) -> None:
    assert LogSearch(RunDir(tmp_path / "none"), "x", "all", "en").is_over


def test_a_step_is_found_by_the_text_that_is_shown(tmp_path: Path) -> None:
    values = [(1.23456, 1e-5), (2.0, 0.0), (math.nan, 5e-5), (1e-7, 3.25e-9), (-3.5, 1.0), (math.inf, 2e-4)]
    reported = [step(number, loss=loss, lr=lr) for number, (loss, lr) in enumerate(values, 1)]
    run_dir = write_run(tmp_path / "logs", "odd", STARTED, PLAN, *reported)
    every = [line.text for one in reported for line in lines(one, RunState(), "en")]
    for text in every:
        assert found(run_dir, text, "all") == [text]
    assert found(run_dir, "lr", "all") == every
    for line in run_dir.events.read_bytes().splitlines()[2:]:
        assert log_search._may_have(line, "lr")
