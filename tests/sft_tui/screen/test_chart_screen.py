"""The keys of a chart, on the screen of a run."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from textual.pilot import Pilot

from engine.contract import events
from sft_tui.screen.app import SftTuiApp
from sft_tui.screen.base import Options
from sft_tui.screen.charted import Charted
from sft_tui.screen.run_screen import RunScreen
from tests.sft_tui.conftest import EVAL, PLAN, STARTED, step
from tests.sft_tui.screen.conftest import plain, until, write_run

Steps = Callable[[Pilot[int], RunScreen, Charted], Awaitable[None]]
LOSSES = [50.0 if number == 30 else 2.0 + number % 3 / 10 for number in range(1, 58)]


@pytest.fixture
def play(tmp_path: Path) -> Callable[[Steps], None]:
    steps = (step(number, loss=loss, grad_norm=number / 10) for number, loss in enumerate(LOSSES, 1))
    host = events.Host(16_000_000_000, 6_000_000_000, [2_900_000_000], 5.0, 1)
    write_run(tmp_path / "logs", "mine-1", STARTED, PLAN, *steps, host, EVAL)

    def played(steps: Steps) -> None:
        async def go() -> None:
            app = SftTuiApp(Options(tmp_path / "logs", run="mine-1"))
            async with app.run_test(size=(120, 40)) as pilot:
                screen = app.screen
                assert isinstance(screen, RunScreen)
                await until(pilot, lambda: screen.latest is not None and not screen.latest.behind)
                charted = screen.charted()
                assert charted is not None
                await steps(pilot, screen, charted)

        asyncio.run(asyncio.wait_for(go(), 60))

    return played


def shown(screen: RunScreen) -> str:
    return "\n".join("".join(text for text, _ in line) for line in screen.lines(120, 40))


def test_zoom_and_pan_change_the_steps(play: Callable[[Steps], None]) -> None:
    async def steps(pilot: Pilot[int], screen: RunScreen, charted: Charted) -> None:
        await pilot.press("plus", "left")
        first, last = charted.shown(screen.selection)
        assert (last < 57, last - first + 1) == (True, 28)
        assert f"{first}–{last}" in shown(screen)
        await pilot.press("minus", "minus")
        assert charted.shown(screen.selection) == (1, 57)

    play(steps)


def test_the_cursor_reads_a_step_and_opens_its_rows(
    play: Callable[[Steps], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[str, int, int]] = []
    monkeypatch.setattr(SftTuiApp, "open_rows", lambda _app, *about: opened.append(about))

    async def steps(pilot: Pilot[int], screen: RunScreen, _charted: Charted) -> None:
        await pilot.press("enter")
        assert "The chart has no cursor" in shown(screen)
        await pilot.press("x")
        assert "step 57  train 2.0000  eval 9.5000" in shown(screen)
        await pilot.press("left", "left")
        assert "step 55  train 2.1000" in shown(screen)
        assert "enter rows" in shown(screen).splitlines()[-1]
        await pilot.press("shift+left", "right")
        await until(pilot, lambda: screen.selection.cursor == 51)
        await pilot.press("home")
        assert "step 1  train" in shown(screen)
        await pilot.press("end", "pageup")
        await until(pilot, lambda: screen.selection.cursor == 32)
        await pilot.press("left_curly_bracket")
        assert "step 30  train 50.00" in shown(screen)
        await pilot.press("left_curly_bracket")
        assert "no further spike" in shown(screen)
        await pilot.press("enter")
        assert opened == [("mine-1", 30, 30)]
        await pilot.press("escape")
        assert not screen.selection.cursor
        assert screen.in_front
        assert "train 2.0000 eval 9.5000 lr" in shown(screen)

    play(steps)


def test_zooming_with_a_cursor_keeps_it_in_the_middle(play: Callable[[Steps], None]) -> None:
    async def steps(pilot: Pilot[int], screen: RunScreen, charted: Charted) -> None:
        await pilot.press("right_curly_bracket", "plus")
        assert charted.shown(screen.selection) == (17, 44)
        await pilot.press("home")
        assert charted.shown(screen.selection)[0] == 1

    play(steps)


def test_metrics_are_those_that_the_run_has(play: Callable[[Steps], None]) -> None:
    async def steps(pilot: Pilot[int], screen: RunScreen, charted: Charted) -> None:
        seen = [screen.selection.metric]
        for _ in charted.charts:
            await pilot.press("m")
            seen.append(screen.selection.metric)
        assert seen[:3] == ["loss", "bleu", "chrf"]
        assert seen[-3:] == ["memory", "padding", "loss"]
        await pilot.press("M")
        assert screen.selection.metric == "padding"

    play(steps)


def test_smoothing_and_all_values_are_said_in_the_frame(play: Callable[[Steps], None]) -> None:
    async def steps(pilot: Pilot[int], screen: RunScreen, _charted: Charted) -> None:
        assert "▒ range  ─ mean of 8  ● eval  ▲ cut (G)" in shown(screen)
        await pilot.press("right_square_bracket")
        assert "mean of 24" in shown(screen)
        await pilot.press(*["left_square_bracket"] * 3)
        assert "─ mean  ●" in shown(screen)
        await pilot.press("G")
        assert "cut (G)" not in shown(screen)

    play(steps)


def test_a_cursor_offers_the_rows_first_on_a_narrow_screen(play: Callable[[Steps], None]) -> None:
    async def steps(pilot: Pilot[int], screen: RunScreen, _charted: Charted) -> None:
        await pilot.resize_terminal(80, 24)
        await pilot.press("3")
        await until(pilot, lambda: screen.app.size.width == 80)
        assert "enter rows" not in plain(screen.bottom_lines(80))
        await pilot.press("x")
        assert plain(screen.bottom_lines(80)).startswith(" enter rows ")

    play(steps)
