"""The panel with the samples."""

import dataclasses

import pytest

from sft_tui.run_state import RunState
from sft_tui.screen import run_view, samples_panel
from tests.sft_tui.screen.conftest import (
    plain,
    run_screen,
)


def test_full_screen_samples_can_be_paged_to_the_last() -> None:
    view = run_screen(page="samples")
    first = plain(run_view.draw(view, 80, 23))
    assert "1/2" in first
    last = dataclasses.replace(view, selection=samples_panel.scroll(view, 10))
    assert "2/2" in plain(run_view.draw(last, 80, 23))
    assert samples_panel.scroll(last, -10).sample == 0


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
