"""The run's screen with its keys, without a terminal: what comes after a half of the demo, and the log's beginning."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from textual.pilot import Pilot

from engine.contract import events
from engine.contract.config import to_json
from engine.contract.durable import write_json
from engine.contract.events import Event
from engine.contract.messages import Message
from engine.contract.outputdir import OutputDir
from engine.contract.presets import preset
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir
from engine.contract.stream import EventWriter
from sft_tui import demo, log_lines, runs
from sft_tui.curves import Curves
from sft_tui.feed import FeedState
from sft_tui.history import Follower
from sft_tui.run_state import RunState
from sft_tui.runs import Run
from sft_tui.screen import run_screen
from sft_tui.screen.app import SftTuiApp
from sft_tui.screen.base import Options
from sft_tui.screen.run_screen import RunScreen
from tests.sft_tui.conftest import PLAN, STARTED, moved_elsewhere, step

FIRST, SECOND = demo.T5.presets
FINISHED = events.RunEnded("finished", 0, Message("ended_finished_unpublished", {"steps_total": 1}))
Steps = Callable[[Pilot[int], RunScreen], Awaitable[None]]


def write(name: str, half: str, *reported: Event) -> RunDir:
    run_dir = RunDir(Path("logs") / name)
    run_dir.path.mkdir(parents=True)
    run_dir.write_record(RunRecord(name, half, "train", to_json(preset(half).config), continued=half == FIRST))
    log = EventWriter(run_dir.events, "rank0", 1)
    for event in reported:
        log.write(event)
    log.close()
    return run_dir


def play(name: str, steps: Steps) -> None:
    async def go() -> None:
        app = SftTuiApp(Options(Path("logs"), run=name))
        async with app.run_test(size=(120, 40)) as pilot:
            screen = app.screen
            assert isinstance(screen, RunScreen)
            await until(pilot, lambda: screen.latest is not None and not screen.latest.behind)
            await steps(pilot, screen)

    asyncio.run(asyncio.wait_for(go(), 60))


async def until(pilot: Pilot[int], holds: Callable[[], object]) -> None:
    while not holds():
        await pilot.pause(0.01)


def shown(screen: RunScreen) -> str:
    return "\n".join("".join(text for text, _ in line) for line in screen.lines(120, 40))


def end(screen: RunScreen) -> None:
    """The screen learns that its run, which was alive, has finished."""
    assert screen.latest is not None
    run = Run(screen.latest.run.run_dir, screen.latest.run.record, RunState(), True)
    screen.latest = FeedState(run, Curves(), (), 0)
    screen.show_latest(FeedState(replace(run, alive=False, state=RunState(ended=FINISHED)), Curves(), (), 0))


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs that are opened; the second half of the demo begins at once."""
    found: list[str] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "await_next", lambda *_: f"{SECOND}-1")
    monkeypatch.setattr(SftTuiApp, "open_run", lambda _app, name: found.append(name))
    return found


def test_a_passive_viewer_follows_the_demo_to_its_second_half(opened: list[str]) -> None:
    async def steps(pilot: Pilot[int], screen: RunScreen) -> None:
        end(screen)
        await until(pilot, lambda: opened)

    write(f"{FIRST}-1", FIRST, STARTED, PLAN, step(1), FINISHED)
    play(f"{FIRST}-1", steps)
    assert opened == [f"{SECOND}-1"]


@pytest.mark.parametrize("keys", [["slash", "a"], ["s"], ["m"], ["l"]])
def test_an_active_viewer_is_notified_of_the_second_half(
    opened: list[str], keys: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "is_alive", lambda *_: True)
    monkeypatch.setattr(run_screen, "QUIET_SECONDS", 600.0)

    async def steps(pilot: Pilot[int], screen: RunScreen) -> None:
        await pilot.press(*keys)
        front = screen.app.screen
        end(screen)
        await until(pilot, lambda: any(f"{SECOND}-1 has begun" in getattr(one, "notice", [""])[0] for one in (front,)))
        assert screen.app.screen is front
        if keys[0] == "s":
            assert screen.question is None  # whether to stop what has ended by itself
        if keys[0] == "slash":
            await pilot.press("b")
            assert screen.question is not None
            assert screen.question.typed == "ab"
            assert f"{SECOND}-1 has begun" in shown(screen)

    write(f"{FIRST}-1", FIRST, STARTED, PLAN, step(1), FINISHED)
    play(f"{FIRST}-1", steps)
    assert opened == []


@pytest.mark.parametrize(("key", "why"), [("s", "stop"), ("p", "pause")])
def test_a_run_on_another_machine_is_asked_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, why: str
) -> None:
    """Its lock cannot be seen here, but its streams grow."""
    monkeypatch.chdir(tmp_path)
    run_dir = write("mine-1", SECOND, STARTED, PLAN, step(1))
    moved_elsewhere(run_dir)

    async def steps(pilot: Pilot[int], screen: RunScreen) -> None:
        assert screen.chosen().alive
        await pilot.press(key)
        assert screen.question is not None
        await pilot.press("y")
        await until(pilot, lambda: run_dir.stop_requested() == why)

    play("mine-1", steps)


def test_the_demos_last_message_stays_until_a_key(opened: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo.Story, "stage", lambda _story: "done")

    async def steps(pilot: Pilot[int], screen: RunScreen) -> None:
        end(screen)
        for _ in range(3):
            await pilot.pause(0.05)
            assert "The demo is done." in shown(screen)
        await pilot.press("m")
        assert "The demo is done." not in shown(screen)

    write(f"{SECOND}-1", SECOND, STARTED, PLAN, step(1), FINISHED)
    play(f"{SECOND}-1", steps)
    assert opened == []


def test_one_key_shows_the_beginning_of_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    saved = (events.Checkpoint(1, n, f"c{n}", 1000, 1.0, []) for n in range(1, 200))
    write(f"{SECOND}-1", SECOND, STARTED, PLAN, *saved, FINISHED)

    async def steps(pilot: Pilot[int], screen: RunScreen) -> None:
        await pilot.press("5", "home")
        assert "Configuration sft-small" in shown(screen)
        assert "checkpoint of step 20 " in shown(screen)
        back = screen.selection.log_back
        await pilot.press("down")
        assert screen.selection.log_back == back - 1  # the first page ends where it is full
        await pilot.press("slash", *"step 150 ", "enter")
        assert "checkpoint of step 150 saved" in shown(screen)
        await pilot.press("slash", "ctrl+u", *"nowhere", "enter")
        assert "No line has “nowhere”." in shown(screen)

    play(f"{SECOND}-1", steps)


def test_the_beginning_of_the_log_stays_while_the_run_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(log_lines, "MOST_STEPS", 50)
    monkeypatch.setattr(runs, "is_alive", lambda *_: True)
    run_dir = write("mine-1", SECOND, STARTED, PLAN, *(step(number) for number in range(1, 300)))
    Follower(run_dir).save()

    async def steps(pilot: Pilot[int], screen: RunScreen) -> None:
        await pilot.press("5", "v", "home")
        assert screen.selection.level == "all"
        assert "Configuration sft-small" in shown(screen)
        assert "1/100 " in shown(screen)
        writer = EventWriter(run_dir.events, "rank0", 1)
        for number in range(300, 340):
            writer.write(step(number))
        writer.close()
        await until(pilot, lambda: screen.latest is not None and "339/" in screen.latest.log[-1].text)
        assert "Configuration sft-small" in shown(screen)
        assert "1/100 " in shown(screen)
        await pilot.press("end", *["pageup"] * 3)
        assert "steps left out" in shown(screen)
        await pilot.press("v", "home")
        assert screen.selection.level == "warnings"
        assert "Configuration sft-small" not in shown(screen)

    play("mine-1", steps)


def test_the_run_footer_has_the_keys_that_act(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write("mine-1", SECOND, STARTED, PLAN, step(1), FINISHED)
    home = preset(SECOND).config.output_dir
    Path(home).mkdir(parents=True)
    owner = {"run": "mine-1", "steps_total": 9, "finished": True}
    write_json(OutputDir(Path(home)).owner_file, owner)

    async def steps(pilot: Pilot[int], screen: RunScreen) -> None:
        assert shown(screen).splitlines()[-1].split() == [
            "tab", "pages", "/", "search", "l", "runs", "E", "more", "epochs", "c", "new", "run", "like", "it",
            "m", "metric", "x", "cursor", "g", "log", "scale", "?", "help", "q", "quit",
        ]  # fmt: skip
        for key, words in (("s", "is not running"), ("p", "is not running"), ("X", "is not running"),
                           ("r", "9 steps")):  # fmt: skip
            await pilot.press(key)
            assert words in shown(screen).split("\n\n")[-1]
        write_json(OutputDir(Path(home)).owner_file, {**owner, "finished": False})
        await pilot.press("3")  # the chart alone
        await until(pilot, lambda: screen.latest is not None and screen.latest.facts.why_not_resumable is None)
        assert "r resume" in shown(screen).splitlines()[-1]
        assert "/ search" not in shown(screen).splitlines()[-1]
        await pilot.press("slash")
        assert screen.question is None
        assert "The log is not on the screen" in shown(screen)
        screen.show_latest(
            replace(screen.latest, run=replace(screen.latest.run, alive=True)) if screen.latest else None
        )
        await pilot.press("m")
        footer = shown(screen).splitlines()[-1]
        assert "s stop & save" in footer
        assert "q leave it running" in footer
        assert "resume" not in footer

    play("mine-1", steps)
