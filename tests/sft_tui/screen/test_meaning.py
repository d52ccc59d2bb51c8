"""What settings amount to, as lines."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract.config import RunConfig
from engine.contract.memory import MemoryPrediction
from engine.contract.texts import Lang
from sft_tui.preflight.check import Report
from sft_tui.screen import meaning
from sft_tui.screen.ink import columns
from sft_tui.screen.meaning import Meaning
from tests.sft_tui.screen.conftest import FACTS, FINDINGS, LEARNING, plain

REPORT = Report(FINDINGS, FACTS, MemoryPrediction({"weights": 700_000_000}, "training"), learning=LEARNING)


def view_of(lang: Lang = "en", report: Report | None = REPORT) -> Meaning:
    return Meaning(RunConfig(), 2, report, report.findings if report else (), lang)


def test_batch_and_rate_are_known_before_the_check() -> None:
    shown = plain(meaning.draw(view_of(report=None), 60))
    assert "effective batch 16 = 1 × 8 × 2" in shown
    assert "peak learning rate 0.00125" in shown
    assert "memory" not in shown
    assert meaning.learning(None, 40, "en") == []


def test_steps_memory_and_lengths_come_with_the_check() -> None:
    shown = plain(meaning.draw(view_of(), 60))
    assert "313 steps an epoch, 939 in all" in shown
    assert "memory 1.40 GB · disk 2.90 GB · time: h measures it" in shown
    assert "median 99, max 871, cut at 512" in shown
    assert "107.0 M of 188.0 M learn" in plain(meaning.learning(REPORT, 200, "en"))


@settings(max_examples=20, deadline=None)
@given(st.integers(30, 300), st.sampled_from(["en", "zh"]))
def test_no_line_is_longer_than_the_panel(width: int, lang: Lang) -> None:
    for line in meaning.draw(view_of(lang), max(width, 60)):
        assert columns(line) <= max(width, 60)


@pytest.mark.parametrize("width", [30, 36, 44])
def test_the_histogram_fits_a_narrow_panel(width: int) -> None:
    assert columns(meaning.draw(view_of(), width)[-2]) == width
