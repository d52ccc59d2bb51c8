"""The first screen with its keys: what it opens, and that it waits for nothing."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from sft_tui import here
from sft_tui.found import Found
from sft_tui.next_steps import Step
from sft_tui.screen import here_screen
from sft_tui.screen.app import SftTuiApp
from sft_tui.screen.base import Options
from sft_tui.screen.here_screen import HereScreen
from sft_tui.screen.launch_screen import LaunchScreen
from sft_tui.screen.runs_screen import RunsScreen
from tests.sft_tui.screen.conftest import FakeCommand, until
from tests.sft_tui.test_here_text import EVERYTHING

Steps = Callable[[Pilot[int], HereScreen], Awaitable[None]]
Opened = list[tuple[str, Any]]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    """What the screen asks the app for, in place of being opened."""
    found: Opened = []
    for name in ("open_import", "open_model", "open_run", "open_chat", "pick_path", "start_run"):
        monkeypatch.setattr(SftTuiApp, name, lambda _app, *args, name=name: found.append((name, args)))
    return found


def play(found: Found | Callable[..., Iterator[Found]], steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    look = found if callable(found) else lambda *_: iter([found])
    monkeypatch.setattr(here, "scan", look)

    async def go() -> None:
        app = SftTuiApp(Options(Path("logs")))
        async with app.run_test(size=(120, 40)) as pilot:
            screen = app.screen
            assert isinstance(screen, HereScreen)
            await steps(pilot, screen)

    asyncio.run(asyncio.wait_for(go(), 60))


def shown(screen: HereScreen) -> str:
    return "\n".join("".join(text for text, _ in line) for line in screen.lines(120, 40))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_enter_in_an_empty_folder_begins_the_demo(monkeypatch: pytest.MonkeyPatch, commands: list[FakeCommand]) -> None:
    async def steps(pilot: Pilot[int], screen: HereScreen) -> None:
        await until(pilot, lambda: screen.state.steps and not screen.state.found.reading)
        assert "Start the demo" in shown(screen)
        await pilot.press("enter")
        await until(pilot, lambda: commands)
        assert commands[0].arguments[:1] == ("demo",)

    play(Found(), steps, monkeypatch)


def test_steps_are_shown_before_everything_is_read(monkeypatch: pytest.MonkeyPatch, opened: Opened) -> None:
    known = threading.Event()

    def scan(*_: object) -> Iterator[Found]:
        yield Found(EVERYTHING.data, reading=True)
        known.wait(30)
        yield EVERYTHING

    async def steps(pilot: Pilot[int], screen: HereScreen) -> None:
        await until(pilot, lambda: "chats.jsonl" in shown(screen))
        assert "reading …" in shown(screen)
        await pilot.press("enter")
        assert "as soon as this is read" in shown(screen)
        assert opened == []
        known.set()
        await until(pilot, lambda: opened)
        assert opened == [("start_run", ("resumed",))]

    monkeypatch.setattr("sft_tui.runs.find", lambda _logs, name: name)
    monkeypatch.setattr("sft_tui.runs.read_run", lambda _name: type("Run", (), {"record": None})())
    monkeypatch.setattr("sft_tui.starting.plan_resume", lambda *_: "resumed")
    try:
        play(scan, steps, monkeypatch)
    finally:
        known.set()


def test_digits_and_the_cursor_carry_out_their_steps(monkeypatch: pytest.MonkeyPatch, opened: Opened) -> None:
    monkeypatch.setattr("sft_tui.runs.find", lambda _logs, name: name)
    monkeypatch.setattr("sft_tui.runs.read_run", lambda name: name)
    monkeypatch.setattr("sft_tui.chat_names.models_of", lambda _run: ["models/smol", "model_save/x/best"])

    async def steps(pilot: Pilot[int], screen: HereScreen) -> None:
        await until(pilot, lambda: len(screen.state.steps) > 3)
        kinds = [step.kind for step in screen.state.steps]

        def last() -> Any:
            return opened[-1]

        await pilot.press(str(kinds.index("learn") + 1))
        assert last()[0] == "open_model"
        assert last()[1][0] == "models/smol"
        assert last()[1][1]["train_file"] == "data/x_train.parquet"
        await pilot.press(*["home"], *["down"] * kinds.index("import"), "enter")
        assert last() == ("open_import", ("chats.jsonl",))
        await pilot.press(str(kinds.index("talk") + 1))
        await until(pilot, lambda: last() == ("open_chat", (["models/smol", "model_save/x/best"], "mine-1")))
        await pilot.press(str(kinds.index("model") + 1))
        assert last()[1][0] == "pretrained_model"
        last()[1][2]("elsewhere/m")
        assert last()[0] == "open_model"
        before = len(opened)
        await pilot.press("9")
        assert len(opened) == before

    play(EVERYTHING, steps, monkeypatch)


def test_a_number_carries_out_no_step_that_has_just_taken_it(monkeypatch: pytest.MonkeyPatch, opened: Opened) -> None:
    monkeypatch.setattr(here_screen, "REACTION_SECONDS", 1000.0)
    begun, known = threading.Event(), threading.Event()

    def scan(*_: object) -> Iterator[Found]:
        begun.wait(30)
        yield Found(EVERYTHING.data, reading=True)
        known.wait(30)
        yield EVERYTHING

    async def steps(pilot: Pilot[int], screen: HereScreen) -> None:
        await pilot.press("2")
        assert "no step 2 yet" in shown(screen)
        begun.set()
        await until(pilot, lambda: screen.state.steps)
        first = screen.state.steps
        known.set()
        await until(pilot, lambda: not screen.state.found.reading)
        later = screen.state.steps
        place = next(place for place, (one, other) in enumerate(zip(first, later, strict=False)) if one != other)
        await pilot.press(str(place + 1))
        assert opened == []
        assert "was another one" in shown(screen)
        assert screen.state.cursor == place
        carried: list[Step] = []
        monkeypatch.setattr(screen, "_carry_out", carried.append)
        await pilot.press(str(place + 1))
        assert carried == [later[place]]

    try:
        play(scan, steps, monkeypatch)
    finally:
        begun.set()
        known.set()


def test_n_and_l_open_the_other_screens_and_esc_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    async def steps(pilot: Pilot[int], screen: HereScreen) -> None:
        await pilot.press("n")
        await until(pilot, lambda: isinstance(pilot.app.screen, LaunchScreen))
        await pilot.press("escape", "l")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunsScreen))
        await pilot.press("escape")
        await until(pilot, lambda: pilot.app.screen is screen)

    play(EVERYTHING, steps, monkeypatch)


def test_a_click_selects_and_a_second_one_carries_out(monkeypatch: pytest.MonkeyPatch, opened: Opened) -> None:
    async def steps(pilot: Pilot[int], screen: HereScreen) -> None:
        await until(pilot, lambda: len(screen.state.steps) > 3)
        rows = shown(screen).splitlines()
        y = next(number for number, row in enumerate(rows) if "Train smol" in row)
        x = rows[y].index("Train smol")
        screen.clicked(x, y)
        assert opened == []
        screen.clicked(x, y)
        assert opened[0][0] == "open_model"

    play(EVERYTHING, steps, monkeypatch)


@pytest.mark.parametrize(("option", "kind"), [({"demo": "demo"}, LaunchScreen), ({}, HereScreen)])
def test_the_first_screen_is_that_of_the_demo_or_of_the_folder(
    option: dict[str, str], kind: type, monkeypatch: pytest.MonkeyPatch, commands: list[FakeCommand]
) -> None:
    monkeypatch.setattr(here, "scan", lambda *_: iter([Found()]))

    async def go() -> None:
        app = SftTuiApp(Options(Path("logs"), **option))  # type: ignore[arg-type]
        async with app.run_test(size=(80, 24)):
            assert isinstance(app.screen, kind)
            assert len(commands) == len(option)

    asyncio.run(asyncio.wait_for(go(), 60))


def test_the_palette_takes_the_step_under_the_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    carried: list[Step] = []
    monkeypatch.setattr(HereScreen, "_carry_out", lambda _screen, step: carried.append(step))

    async def steps(pilot: Pilot[int], screen: HereScreen) -> None:
        await until(pilot, lambda: screen.state.steps and not screen.state.found.reading)
        expected = screen.state.steps[1]
        await pilot.press("down", "ctrl+p", *"number", "enter")
        await until(pilot, lambda: carried)
        assert carried == [expected]

    play(EVERYTHING, steps, monkeypatch)


def test_a_folder_that_is_removed_meanwhile_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: Opened
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    scanned: list[object] = []
    monkeypatch.setattr(here_screen, "LOOK_SECONDS", 0.01)

    def scan(*_: object) -> Iterator[Found]:
        scanned.append(None)
        yield Found()

    async def steps(pilot: Pilot[int], screen: HereScreen) -> None:
        await until(pilot, lambda: scanned)
        folder.rmdir()
        before = len(scanned)
        await until(pilot, lambda: len(scanned) > before + 2)
        assert pilot.app.screen is screen
        assert pilot.app.return_code is None

    play(scan, steps, monkeypatch)
    assert opened == []
