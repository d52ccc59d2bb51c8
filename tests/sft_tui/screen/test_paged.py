"""Pages that are longer than the screen."""

from dataclasses import replace

import pytest

from sft_tui.screen import paged
from sft_tui.screen.ink import Line
from sft_tui.screen.run_contents import Selection
from tests.sft_tui.screen.conftest import plain, run_screen

BODY: list[Line] = [[(f"row {number}.", "")] for number in range(30)]


@pytest.mark.parametrize(("scrolled", "first", "note"), [(0, 0, "1-8/30"), (5, 5, "6-13/30"), (99, 22, "23-30/30")])
def test_a_page_is_shown_from_where_it_is_scrolled_to(scrolled: int, first: int, note: str) -> None:
    shown = plain(paged.page(run_screen(scrolled=scrolled), [], BODY, 40, 10))
    assert [number for number in range(30) if f"row {number}." in shown] == list(range(first, first + 8))
    assert note in shown


def test_a_page_that_fits_has_no_note() -> None:
    assert "/30" not in plain(paged.page(run_screen(scrolled=7), [], BODY, 40, 32))


def test_scrolling_ends_at_the_beginning() -> None:
    view = replace(run_screen(), selection=Selection(scrolled=3))
    assert paged.scroll(view, -10).scrolled == 0
    assert paged.scroll(view, 2).scrolled == 5
