"""The list of runs with its keys, without a terminal: what a deletion counts and leaves, and where a model is."""

import asyncio
from pathlib import Path

from textual.pilot import Pilot

from engine.contract.outputdir import OutputDir
from sft_tui.screen.app import SftTuiApp
from sft_tui.screen.base import Options
from sft_tui.screen.runs_screen import RunsScreen
from tests.sft_tui.test_removal import Made, made

__all__ = ["made"]


async def until_listed(pilot: Pilot[int], count: int) -> RunsScreen:
    await pilot.press("l")
    screen = pilot.app.screen
    assert isinstance(screen, RunsScreen)
    while len(screen.state.runs) != count:
        await pilot.pause(0.01)
    return screen


def shown(screen: RunsScreen) -> str:
    return "\n".join("".join(text for text, _ in line) for line in screen.lines(160, 40))


def test_output_moved_aside_is_shown_counted_and_deleted(made: Made) -> None:
    made()
    made(name="sft-small-2")  # which moves what the first one left
    aside = OutputDir(Path("out")).earlier / "sft-small-1"
    assert aside.is_dir()
    (aside / "mine.txt").write_text("kept")

    async def play() -> None:
        app = SftTuiApp(Options(Path("logs")))
        async with app.run_test(size=(160, 40)) as pilot:
            screen = await until_listed(pilot, 2)
            await pilot.press("end")
            assert screen._here.name == "sft-small-1"
            assert "out/earlier/sft-small-1" in shown(screen)
            await pilot.press("d")
            asked = shown(screen)
            assert "out/earlier/sft-small-1" in asked.split("Delete ")[1]
            assert "KB)? y/n" in asked
            await pilot.press("y")
            assert "sft-small-1 is deleted." in shown(screen)
            assert "mine.txt" in shown(screen)

    asyncio.run(asyncio.wait_for(play(), 60))
    assert [path.name for path in aside.iterdir()] == ["mine.txt"]
    assert OutputDir(Path("out")).best.is_dir()
