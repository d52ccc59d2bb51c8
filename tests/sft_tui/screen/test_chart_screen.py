"""The keys of a chart, on the screen of a run."""

import asyncio
from pathlib import Path

from sft_tui.screen.app import SftTuiApp
from sft_tui.screen.base import Options
from sft_tui.screen.run_screen import RunScreen
from tests.sft_tui.screen.conftest import until


def test_zoom_and_pan_change_the_steps(logs: Path) -> None:
    async def go() -> None:
        app = SftTuiApp(Options(logs, run="sft-small-1"))
        async with app.run_test(size=(120, 40)) as pilot:
            screen = app.screen
            assert isinstance(screen, RunScreen)
            await until(pilot, lambda: screen.latest is not None and not screen.latest.behind)
            charted = screen.charted()
            assert charted is not None
            await pilot.press("plus", "left")
            first, last = charted.shown(screen.selection)
            assert last < 59
            assert last - first + 1 == 30
            await pilot.press("minus")
            assert charted.shown(screen.selection) == (1, 59)

    asyncio.run(asyncio.wait_for(go(), 60))
