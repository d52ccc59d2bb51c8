"""The panel with the samples."""

import dataclasses
from typing import Any

import pytest

from engine.contract import events
from sft_tui.run_state import RunState
from sft_tui.screen import run_view, samples_panel
from sft_tui.screen.run_contents import RunView
from tests.sft_tui.screen.conftest import (
    plain,
    run_screen,
)


def with_samples(count: int, words: str, **selected: Any) -> RunView:
    """Samples with a long reference and prompt, and the newest prediction marked."""
    view = run_screen(**selected)
    rows = [
        events.Sample(2, 60, row, f"ask{row} {words}", f"ref{row} {words}", f"NEW{row} {words}") for row in range(count)
    ]
    before = [dataclasses.replace(one, step=30, prediction=f"OLD{one.row} {words}") for one in rows]
    state = dataclasses.replace(view.state, samples=tuple(rows), samples_before=tuple(before))
    return dataclasses.replace(view, run=dataclasses.replace(view.run, state=state))


@pytest.mark.parametrize("words", ["short", "a long text, " * 40, "很长的文字，" * 60])
@pytest.mark.parametrize("height", range(8, 24))
def test_the_newest_prediction_is_always_shown(height: int, words: str) -> None:
    shown = plain(samples_panel.draw(with_samples(1, words), 58, height))
    assert "NEW0" in shown
    assert shown.index("NEW0") < shown.index("OLD0")


def test_samples_share_the_panel() -> None:
    shown = plain(samples_panel.draw(with_samples(3, "a long text, " * 40), 58, 17))
    assert all(f"{mark}{row}" in shown for row in range(3) for mark in ("ask", "NEW", "OLD", "ref"))


def test_predictions_of_two_evaluations_begin_in_one_column() -> None:
    lines = plain(samples_panel.draw(with_samples(1, "x"), 58, 12)).splitlines()
    places = {line.index(mark) for line in lines for mark in ("ask0", "NEW0", "OLD0", "ref0") if mark in line}
    assert len(places) == 1


@pytest.mark.parametrize(("width", "height"), [(60, 20), (80, 23), (120, 39)])
def test_a_page_of_samples_can_be_scrolled_to_its_end(width: int, height: int) -> None:
    view = with_samples(3, "a long text, " * 40 + "the-end", page="samples")
    assert "NEW0" in plain(run_view.draw(view, width, height))
    far = dataclasses.replace(view, selection=samples_panel.scroll(view, 10**6))
    last = dataclasses.replace(far, selection=run_view.within_limits(far, width, height))
    shown = plain(run_view.draw(last, width, height)).splitlines()
    assert "the-end" in shown[-2]
    assert samples_panel.scroll(last, -1).scrolled == last.selection.scrolled - 1


def title(state: RunState, width: int) -> str:
    """The upper edge of the panel."""
    view = run_screen(page="samples")
    view = dataclasses.replace(view, run=dataclasses.replace(view.run, state=state))
    return plain(samples_panel.draw(view, width, 12)).splitlines()[0]


@pytest.mark.parametrize("width", range(20, 150, 7))
def test_scores_that_do_not_fit_the_title_are_left_out_whole(width: int) -> None:
    shown = title(run_screen().state, width)
    for name, score in (("chrF", "33.50"), ("ROUGE-L", "25.00"), ("exact", "match 3.12 %")):
        assert shown.count(name) == shown.count(f"{name} {score}")
    if width > 130:
        assert "BLEU 14.50 (was 11.50)" in shown
        assert "exact match 3.12 %" in shown


def test_a_score_is_not_set_against_one_that_was_computed_otherwise() -> None:
    state = run_screen().state
    assert state.evaluation_before is not None
    before = dataclasses.replace(state.evaluation_before, signature="tok:char")
    assert "was" not in title(dataclasses.replace(state, evaluation_before=before), 140)
