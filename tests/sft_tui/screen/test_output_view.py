"""The screen with what a run's processes printed."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sft_tui.screen import output_view
from sft_tui.screen.output_view import OutputView
from tests.sft_tui.screen.conftest import HEIGHTS, WIDTHS, exact, plain

VIEW = OutputView("sft-small-1", "trainer", tuple(f"line {number}." for number in range(200)), cut=True)


def shown(view: OutputView, width: int = 80, height: int = 20) -> str:
    return plain(output_view.draw(view, width, height))


def test_the_newest_lines_are_at_the_bottom() -> None:
    assert "line 199." in shown(VIEW).splitlines()[-2]
    assert "follow" in shown(VIEW)


def test_scrolling_back_shows_earlier_lines_up_to_the_first() -> None:
    assert "line 189." in shown(replace(VIEW, back=10)).splitlines()[-2]
    far = shown(replace(VIEW, back=10**6))
    assert "sft-tui logs --trainer sft-small-1" in far
    assert "line 0." in far
    assert "line 16." in far


def test_long_lines_are_wrapped() -> None:
    view = replace(VIEW, lines=("word " * 40 + "the-end",), cut=False)
    assert "the-end" in shown(view, 60, 10)


def test_nothing_printed_and_a_fault_are_said() -> None:
    assert "Nothing was printed yet." in shown(replace(VIEW, lines=(), cut=False))
    assert "it is a link" in shown(replace(VIEW, fault="it is a link\x1b"))


@pytest.mark.parametrize("back", [0, 7, 10**6])
@settings(max_examples=20, deadline=None)
@given(width=WIDTHS, height=HEIGHTS)
def test_the_screen_can_have_any_size(back: int, width: int, height: int) -> None:
    exact(output_view.draw(replace(VIEW, back=back, lang="zh"), width, height), width, height)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=12), st.integers(0, 12), st.integers(0, 12), st.integers(0, 6))
def test_a_scrolled_view_stays_though_the_first_lines_are_dropped(
    lengths: list[int], back: int, dropped: int, more: int
) -> None:
    begins = [0, *itertools.accumulate(lengths + [5] * more, lambda at, length: at + length + 1)]
    numbers = range(len(lengths) + more)
    held = [str(number) for number in numbers]
    back = min(back, len(lengths) - 1)
    view = replace(VIEW, lines=held[: len(lengths)], begins=begins[: len(lengths)], back=back)
    dropped = min(dropped, len(numbers) - 1)
    now = output_view.continued(view, held[dropped:], begins[dropped : len(numbers)], cut=True)
    last = now.lines[len(now.lines) - 1 - now.back] if now.back < len(now.lines) else held[0]
    if not back:
        assert now.back == 0
    elif len(lengths) - 1 - back >= dropped:
        assert last == str(len(lengths) - 1 - back)
    else:
        assert now.back >= len(now.lines)  # beyond the first line: the drawing stops there
