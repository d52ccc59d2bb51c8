"""Every screen at two sizes in both languages as it was kept, and at any size with anything in it."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings

from engine.contract.texts import Lang
from sft_tui.screen import help_view, launch_view, run_view, runs_view
from sft_tui.screen.ink import Line
from tests.sft_tui.screen.conftest import (
    HEIGHTS,
    KILLED,
    SIZES,
    WIDTHS,
    exact,
    launch_screen,
    run_screen,
    runs_screen,
    same_as_kept,
)

SCREENS: dict[str, Callable[[Lang, int, int], list[Line]]] = {
    "launch": lambda lang, w, h: launch_view.draw(launch_screen(lang), w, h),
    "launch-findings": lambda lang, w, h: launch_view.draw(launch_screen(lang, panel="findings"), w, h),
    "launch-settings": lambda lang, w, h: launch_view.draw(launch_screen(lang, panel="settings", setting=18), w, h),
    "launch-first": lambda lang, w, h: launch_view.draw(
        launch_screen(lang, report=None, doing="…", resumable={}), w, h
    ),
    "run": lambda lang, w, h: run_view.draw(run_screen(lang), w, h),
    "run-log": lambda lang, w, h: run_view.draw(run_screen(lang, page="log", level="all", search="0"), w, h),
    "run-ended": lambda lang, w, h: run_view.draw(run_screen(lang, KILLED), w, h),
    "runs": lambda lang, w, h: runs_view.draw(runs_screen(lang), w, h),
    "runs-compared": lambda lang, w, h: runs_view.draw(runs_screen(lang, marked=True), w, h),
    "help": lambda lang, w, h: help_view.draw("run", lang, w, h, 0),
}


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("name", SCREENS)
def test_a_screen_matches_its_snapshot(name: str, lang: Lang, size: tuple[int, int]) -> None:
    width, height = size[0], size[1] - 1  # the last line is the footer
    lines = SCREENS[name](lang, width, height)
    exact(lines, width, height)
    same_as_kept(f"{name}-{lang}-{size[0]}x{size[1]}", lines)


@pytest.mark.parametrize("name", SCREENS)
@settings(max_examples=25, deadline=None)
@given(width=WIDTHS, height=HEIGHTS)
def test_a_screen_can_have_any_size(name: str, width: int, height: int) -> None:
    exact(SCREENS[name]("zh", width, height), width, height)
