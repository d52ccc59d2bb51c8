"""The screen with what a run's processes printed, by keys."""

import asyncio
from pathlib import Path

from engine.contract.rundir import RunDir
from sft_tui.screen.app import SftTuiApp
from sft_tui.screen.base import Options
from sft_tui.screen.output_screen import OutputScreen
from sft_tui.screen.run_screen import RunScreen
from tests.sft_tui.screen.conftest import until


def shown(screen: OutputScreen) -> str:
    return "\n".join("".join(text for text, _ in line) for line in screen.lines(80, 24))


def test_the_output_is_followed_scrolled_and_left(logs: Path) -> None:
    run_dir = RunDir(logs / "sft-small-1")
    run_dir.trainer_output.write_text("".join(f"line {number}.\n" for number in range(100)))
    run_dir.supervisor_output.write_text("from the supervisor\n")

    async def go() -> None:
        app = SftTuiApp(Options(logs, run="sft-small-1"))
        async with app.run_test(size=(80, 24)) as pilot:
            app.open_output("sft-small-1")
            screen = app.screen
            assert isinstance(screen, OutputScreen)
            await until(pilot, lambda: "line 99." in shown(screen))
            await pilot.press("home")
            assert "line 0." in shown(screen)
            before = screen.state.back
            with run_dir.trainer_output.open("a") as file:
                file.write("the newest\n")
            await until(pilot, lambda: screen.state.back == before + 1)
            assert "line 0." in shown(screen)
            await pilot.press("end")
            assert "the newest" in shown(screen)
            await pilot.press("tab")
            await until(pilot, lambda: "from the supervisor" in shown(screen))
            await pilot.press("o")
            assert isinstance(app.screen, RunScreen)

    asyncio.run(asyncio.wait_for(go(), 60))


def test_a_link_in_the_place_of_the_output_is_reported(logs: Path) -> None:
    (logs / "secret").write_text("secret")
    (logs / "sft-small-1" / "trainer.log").symlink_to(logs / "secret")

    async def go() -> None:
        app = SftTuiApp(Options(logs))
        async with app.run_test(size=(80, 24)) as pilot:
            app.open_output("sft-small-1")
            screen = app.screen
            assert isinstance(screen, OutputScreen)
            await until(pilot, lambda: screen.state.fault)
            assert "link" in shown(screen)
            assert "secret\n" not in shown(screen)

    asyncio.run(asyncio.wait_for(go(), 60))
