"""The words of events: every kind has some, or is declared silent, and every line has its level."""

import dataclasses
from collections.abc import Callable

import pytest

from engine.contract import events
from engine.contract.events import EVENT_TYPES, Event, Record
from engine.contract.messages import Message
from sft_tui import event_text, run_state
from sft_tui.run_state import RunState, reduce

from .conftest import ENDED, EVAL, STARTED, step

FAILED = events.RankFailed("failed", "training", 7, "ValueError: \x1b[31mwrong", "Traceback", waiting=False)
KILLED = events.RunEnded("failed", 1, Message("ended_failed", {"rank": 1}), {"peak_memory_rank0": "2900000000"})


def levels(event: Event) -> list[str]:
    return [line.level for line in event_text.lines(event, RunState(), "en")]


def test_a_failure_on_one_of_several_machines_says_where() -> None:
    (line,) = event_text.lines(dataclasses.replace(FAILED, rank=3, node="oak\x1b"), RunState(), "en")
    assert line.text.startswith("rank 3 on oak")
    assert "\x1b" not in line.text
    (alone,) = event_text.lines(FAILED, RunState(), "en")
    assert alone.text.startswith("failed: ")


@pytest.mark.parametrize("table", [event_text.WORDS, run_state.REDUCERS], ids=["words", "state"])
def test_every_kind_of_event_is_declared(table: dict[type[Event], object]) -> None:
    assert set(table) == set(EVENT_TYPES.values())


def test_events_that_only_fill_panels_and_bars_have_no_line() -> None:
    assert set(event_text.SILENT) == {"phase", "rehearsed", "host", "gpu", "heartbeat"}
    assert levels(events.Phase("loading")) == []
    assert levels(events.Unknown("from_the_future", {"text": "x"})) == []


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (step(3), {"step"}),
        (EVAL, {"data"}),
        (events.Notice(Message("head_frozen")), {"note"}),
        (events.Warning(Message("head_frozen")), {"warning"}),
        (FAILED, {"error"}),
        (ENDED, {"data", "note"}),
        (KILLED, {"error"}),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_the_level_of_a_line_says_how_important_it_is(event: Event, expected: set[str]) -> None:
    assert set(levels(event)) == expected


def test_a_failed_rank_is_shown_on_screen_and_printed_only_with_the_end() -> None:
    (line,) = event_text.lines(FAILED, RunState(), "en")
    assert "ValueError: " in line.text
    assert "\x1b" not in line.text
    assert event_text.printed_lines(FAILED, RunState(), "en") == []


def test_an_evaluation_of_a_test_is_called_one(record: Callable[..., Record]) -> None:
    tested = reduce(RunState(), record(dataclasses.replace(STARTED, job="test")))
    assert event_text.lines(EVAL, tested, "en")[0].text.startswith("test: ")
    assert event_text.lines(EVAL, RunState(), "en")[0].text.startswith("evaluation of epoch 1")


def test_a_preset_of_ones_own_is_named_without_a_summary() -> None:
    own = dataclasses.replace(STARTED, preset="shop")
    (first, second) = (event_text.lines(event, RunState(), "en")[0].text for event in (own, STARTED))
    assert first == "Configuration shop"
    assert second.startswith("Configuration sft-small (TrainConfigSFTSmall): ")


def test_the_evidence_of_an_end_is_in_words() -> None:
    readings = {"memory_available": "21.00 GB | 20.90 GB | 22.00 GB", "memory_of_ranks": "1.50 GB, 1.40 GB | 0 B, 0 B"}
    said = {"rank": "0", "signal": "SIGKILL", "memory_total": "25.33 GB", "traceback": "a\nb", "other": "\x1b7"}
    end = events.RunEnded("killed", 1, Message("ended_killed"), {**said, **readings})
    assert event_text.evidence_words(end, "en") == [
        "In the seconds before, at least 20.90 GB of 25.33 GB of memory was free; the trainer took at most "
        "1.50 GB, 1.40 GB.",
        "other: ␛7",
    ]
    assert event_text.evidence_words(end, "zh")[0] == (
        "结束前几秒，内存至少还有 20.90 GB 可用（共 25.33 GB），训练进程最多占用 1.50 GB, 1.40 GB。"
    )
    strange = events.RunEnded("killed", 1, Message("x"), {"memory_available": "much|", "memory_total": "more"})
    assert "more" in event_text.evidence_words(strange, "en")[0]
