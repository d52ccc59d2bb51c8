"""The panel with the samples."""

import dataclasses

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
