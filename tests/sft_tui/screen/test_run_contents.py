"""What of a run is selected: zoom, place and page."""

import pytest

from sft_tui.screen.run_contents import Selection


@pytest.mark.parametrize(("by", "window"), [(0.5, 50), (2.0, 0)])
def test_zooming_halves_and_doubles_what_is_shown(by: float, window: int) -> None:
    assert Selection().zoomed(by, 100).window == window


def test_panning_stays_within_the_run() -> None:
    look = Selection(window=40)
    for _ in range(20):
        look = look.panned(1, 100)
    assert look.back == 60
    for _ in range(20):
        look = look.panned(-1, 100)
    assert look.back == 0
    assert Selection().panned(1, 100) == Selection()


def test_zooming_ends_at_the_resolution_of_the_curve() -> None:
    look = Selection()
    for _ in range(30):
        look = look.zoomed(0.5, 1_000_000, grain=512)
    assert look.window == 16 * 512
