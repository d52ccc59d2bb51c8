"""The pages of a run, by tab and by number."""

import asyncio
from pathlib import Path

import pytest
from textual.pilot import Pilot

from sft_tui.screen.app import SftTuiApp
from sft_tui.screen.base import Options
from sft_tui.screen.run_layout import PAGES
from sft_tui.screen.run_screen import RunScreen
from tests.sft_tui.screen.conftest import until


@pytest.fixture
def screen_of(logs: Path) -> SftTuiApp:
    return SftTuiApp(Options(logs, run="sft-small-1"))


def test_pages_follow_each_other_and_have_numbers(screen_of: SftTuiApp) -> None:
    async def go() -> None:
        async with screen_of.run_test(size=(80, 24)) as pilot:
            screen = screen_of.screen
            assert isinstance(screen, RunScreen)
            await until(pilot, lambda: screen.latest is not None and not screen.latest.behind)
            seen = [screen.selection.page]
            for _ in PAGES:
                await pilot.press("tab")
                seen.append(screen.selection.page)
            assert seen == [*PAGES, PAGES[0]]
            assert PAGES == ("all", "settings", "chart", "samples", "log", "machine")
            for number, name in enumerate(PAGES, 1):
                await pilot.press(str(number))
                assert screen.selection.page == name
            await scrolled(pilot, screen)

    asyncio.run(asyncio.wait_for(go(), 60))


async def scrolled(pilot: Pilot[int], screen: RunScreen) -> None:
    """A page is scrolled to its end and no further, begins at its top again, and is copied whole."""
    await pilot.press("2", "end")
    end = screen.selection.scrolled
    assert 0 < end < 200
    await pilot.press("up")
    assert screen.selection.scrolled == end - 1
    await pilot.press("y")
    (copied,) = screen.services.options.logs.glob("copied-*.txt")
    assert "Differs from sft-small" in copied.read_text()
    assert "hang_seconds" in copied.read_text()
    await pilot.press("6", "2")
    assert screen.selection.scrolled == 0
