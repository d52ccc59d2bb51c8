"""The list of runs with its keys, without a terminal: what a deletion counts and leaves, and where a model is."""

import asyncio
import dataclasses
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from textual.pilot import Pilot

from engine.contract import events
from engine.contract.outputdir import OutputDir
from engine.contract.rundir import RunDir
from sft_tui import notes, removal
from sft_tui.notes import Note
from sft_tui.runs import Run
from sft_tui.screen.app import SftTuiApp
from sft_tui.screen.base import Options
from sft_tui.screen.runs_screen import RunsScreen
from tests.sft_tui.conftest import EVAL, PLAN, STARTED, step
from tests.sft_tui.screen.conftest import until, write_run
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
            assert screen.shown_run().name == "sft-small-1"
            assert "out/earlier/sft-small-1" in shown(screen)
            await pilot.press("d")
            await until(pilot, lambda: "KB)? y/n" in shown(screen))
            assert "out/earlier/sft-small-1" in shown(screen).split("Delete ")[1]
            await pilot.press("y")
            await until(pilot, lambda: "sft-small-1 is deleted." in shown(screen))
            assert "mine.txt" in shown(screen)

    asyncio.run(asyncio.wait_for(play(), 60))
    assert [path.name for path in aside.iterdir()] == ["mine.txt"]
    assert OutputDir(Path("out")).best.is_dir()


def play(logs: Path, steps: Callable[[Pilot[int], RunsScreen], Awaitable[None]], size: tuple[int, int]) -> None:
    async def go() -> None:
        app = SftTuiApp(Options(logs))
        async with app.run_test(size=size) as pilot:
            await steps(pilot, await until_listed(pilot, 3))

    asyncio.run(asyncio.wait_for(go(), 60))


@pytest.fixture
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for number, loss in ((1, 2.0), (2, 1.0), (3, 3.0)):
        reply = events.Sample(1, 50, 0, "who are you?", "a model", f"reply {number}")
        scored = dataclasses.replace(EVAL, loss=loss, bleu=10.0 + number)
        write_run(tmp_path / "logs", f"run-{number}", STARTED, PLAN, *map(step, range(1, 51)), scored, reply)
    notes.write(RunDir(tmp_path / "logs" / "run-2"), Note("longer rows", ["keep"]))
    return tmp_path / "logs"


def names(screen: RunsScreen) -> str:
    return " ".join(run.name.removeprefix("run-") for run in screen.state.listed)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
def test_marked_runs_are_compared_on_pages(three: Path, size: tuple[int, int]) -> None:
    async def steps(pilot: Pilot[int], screen: RunsScreen) -> None:
        def seen() -> str:
            return "\n".join("".join(text for text, _ in line) for line in screen.lines(*size))

        await pilot.press("tab")
        assert "Mark several runs first" in seen()
        await pilot.press("home", "space", "down", "space")
        await until(pilot, lambda: len(screen.state.charted.runs) == 2 and screen.charted() is not None)
        await until(pilot, lambda: all(curves.of["loss"].last for curves in screen.state.charted.runs.values()))
        assert "Loss" in seen()
        await pilot.press("m")
        assert "Loss" not in seen()
        for _ in range(3):
            if "What differs" not in seen():
                await pilot.press("tab")
        same = next(line for line in seen().splitlines() if "the same (v: show)" in line)
        assert same
        await pilot.press("v")
        assert "the same (v: show)" not in seen()
        while "Replies" not in seen():
            await pilot.press("tab")
        assert "reply 3" in seen()
        assert "reply 2" in seen()
        while "Origins" not in seen():
            await pilot.press("tab")
        assert "None of them began from another run." in seen()

    play(three, steps, size)


def test_the_cursor_stays_on_its_run_when_the_order_changes(three: Path) -> None:
    async def steps(pilot: Pilot[int], screen: RunsScreen) -> None:
        await pilot.press("home")
        here = screen.shown_run().name
        for order in ("eval", "best", "time", "run", "started"):
            await pilot.press("o")
            assert screen.state.order == order
            assert screen.shown_run().name == here
            if order == "eval":
                assert names(screen) == "2 1 3"
        assert "STARTED▾" in shown(screen)

    play(three, steps, (160, 40))


def test_a_filter_is_typed_and_left_with_escape(three: Path) -> None:
    async def steps(pilot: Pilot[int], screen: RunsScreen) -> None:
        assert "#keep" in shown(screen)
        await pilot.press("slash", *"keep", "enter")
        assert names(screen) == "2"
        assert "/keep 1 of 3" in shown(screen)
        await until(pilot, lambda: screen.charted() is not None and screen._steps > 1)
        await pilot.press("x")
        assert screen.cursor_shown
        await pilot.press("escape")
        assert not screen.cursor_shown
        assert names(screen) == "2"
        await pilot.press("escape")
        assert len(screen.state.listed) == 3
        assert screen.app.screen is screen

    play(three, steps, (160, 40))


def test_the_curve_of_the_run_under_the_cursor_follows_it(three: Path) -> None:
    async def steps(pilot: Pilot[int], screen: RunsScreen) -> None:
        for key in ("home", "down", "down"):
            await pilot.press(key)
            here = screen.shown_run().name
            await until(pilot, lambda here=here: here in screen.state.curves)  # type: ignore[misc]
            assert list(screen.state.charted.runs) == [here]

    play(three, steps, (120, 40))


def test_files_are_counted_and_deleted_behind_the_keys(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    made()
    threads: list[threading.Thread] = []
    may_end, of, remove = threading.Event(), removal.of, removal.remove

    def slow_of(run: Run) -> list[tuple[Path, int]]:
        threads.append(threading.current_thread())
        return of(run)

    def slow_remove(run: Run) -> list[Path]:
        threads.append(threading.current_thread())
        may_end.wait(30)
        return remove(run)

    monkeypatch.setattr(removal, "of", slow_of)
    monkeypatch.setattr(removal, "remove", slow_remove)

    async def play() -> None:
        app = SftTuiApp(Options(Path("logs")))
        async with app.run_test(size=(160, 40)) as pilot:
            screen = await until_listed(pilot, 1)
            await pilot.press("d", "y")
            assert "Deleting sft-small-1 …" in shown(screen)
            await pilot.press("d")
            assert screen.question is None
            may_end.set()
            await until(pilot, lambda: "sft-small-1 is deleted." in shown(screen))
            assert screen.state.runs == []
            await until(pilot, lambda: len(threads) == 2)
            assert threading.main_thread() not in threads

    try:
        asyncio.run(asyncio.wait_for(play(), 60))
    finally:
        may_end.set()
