"""The keys of a run's log: search, its hits, folds."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from textual.pilot import Pilot

from engine.contract import events
from engine.contract.messages import Message
from sft_tui import log_lines
from sft_tui.history import Follower
from sft_tui.screen.app import SftTuiApp
from sft_tui.screen.base import Options
from sft_tui.screen.run_screen import RunScreen
from tests.sft_tui.conftest import EVAL, PLAN, STARTED, step
from tests.sft_tui.screen.conftest import until, write_run

END = events.RunEnded(
    "finished", 0, Message("ended_tested", {"model": "m", "rows": 3, "path": "x", "loss": "1", "bleu": "2"})
)
Steps = Callable[[Pilot[int], RunScreen], Awaitable[None]]


def play(logs: Path, steps: Steps, size: tuple[int, int] = (120, 40)) -> None:
    async def go() -> None:
        app = SftTuiApp(Options(logs, run="one"))
        async with app.run_test(size=size) as pilot:
            screen = app.screen
            assert isinstance(screen, RunScreen)
            await until(pilot, lambda: screen.latest is not None and screen.latest.earlier.read >= 1)
            await steps(pilot, screen)

    asyncio.run(asyncio.wait_for(go(), 60))


def shown(screen: RunScreen) -> str:
    return "\n".join("".join(text for text, _ in line) for line in screen.lines(*screen.app.size))


async def to_log(pilot: Pilot[int], screen: RunScreen) -> None:
    while screen.selection.page != "log":
        await pilot.press("tab")


async def find(pilot: Pilot[int], words: str) -> None:
    await pilot.press("slash", *words, "enter")


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    reported: list[events.Event] = [STARTED, PLAN]
    for number in range(1, 301):
        reported.append(step(number))
        if number % 50 == 0:
            reported.append(events.Checkpoint(1, number, f"out/checkpoints/step-{number}", 240_000_000, 1.4, []))
    reported += [EVAL, events.Sample(1, 300, 0, "a prompt", "a reference", "a reply"), END]
    write_run(tmp_path / "logs", "one", *reported)
    return tmp_path / "logs"


def test_hits_are_counted_and_visited_in_turn(logs: Path) -> None:
    async def steps(pilot: Pilot[int], screen: RunScreen) -> None:
        await to_log(pilot, screen)
        await find(pilot, "checkpoint of step")
        assert "1 of 6" in shown(screen)
        assert "Configuration sft-small" in shown(screen)  # the other lines stay
        for number in (2, 3, 4, 5, 6, 1):
            await pilot.press("n")
            assert f"/checkpoint of step {number} of 6" in shown(screen)
        await pilot.press("N")
        assert "6 of 6" in shown(screen)
        assert "▸checkpoint of step 300" in shown(screen)
        await pilot.press("escape")
        assert "of 6" not in shown(screen)
        assert screen.app.screen is screen

    play(logs, steps)


def test_a_search_without_hits_says_so(logs: Path) -> None:
    async def steps(pilot: Pilot[int], screen: RunScreen) -> None:
        await find(pilot, "confguration")
        assert "No line has “confguration”." in shown(screen)
        assert "No line of this level has “confguration”" in shown(screen)

    play(logs, steps)


def test_space_unfolds_what_is_folded_and_folds_it_again(logs: Path) -> None:
    async def steps(pilot: Pilot[int], screen: RunScreen) -> None:
        await to_log(pilot, screen)
        assert "1 sample, BLEU 12.25" in shown(screen)
        assert "a reply" not in shown(screen)
        await pilot.press("space")
        assert "a reply" in shown(screen)
        await pilot.press("space")
        assert "a reply" not in shown(screen)
        await pilot.press("v")
        assert "… 47 steps" in shown(screen)

    play(logs, steps)


def test_a_hit_that_is_not_held_is_found_in_the_stream(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_lines, "MOST_STEPS", 20)

    async def steps(pilot: Pilot[int], screen: RunScreen) -> None:
        await to_log(pilot, screen)
        await pilot.press("v")
        assert "steps left out" in shown(screen)
        await find(pilot, "143/")
        await until(pilot, lambda: "1 of 1" in shown(screen))
        assert "▸143/100" in shown(screen)

    play(logs, steps)


def test_the_first_page_of_a_log_is_full(logs: Path) -> None:
    async def steps(pilot: Pilot[int], screen: RunScreen) -> None:
        await to_log(pilot, screen)
        await pilot.press("v", "space", "home")
        lines = shown(screen).splitlines()
        rows = [line for line in lines if line.startswith("│")]
        assert "Configuration sft-small" in rows[0]
        assert all(line.strip("│ ") for line in rows)

    play(logs, steps, (80, 24))


def test_a_snapshot_does_not_shorten_the_search(logs: Path) -> None:
    from engine.contract.rundir import RunDir

    follower = Follower(RunDir(logs / "one"))
    follower.poll()
    follower.save()

    async def steps(pilot: Pilot[int], screen: RunScreen) -> None:
        await find(pilot, "configuration")
        await until(pilot, lambda: "1 of 1" in shown(screen))

    play(logs, steps)


def test_without_a_search_there_is_no_next_hit(logs: Path) -> None:
    async def steps(pilot: Pilot[int], screen: RunScreen) -> None:
        await to_log(pilot, screen)
        for key in ("n", "N"):
            await pilot.press(key)
            assert "/ searches the log" in shown(screen)
            await pilot.press("k")

    play(logs, steps)
