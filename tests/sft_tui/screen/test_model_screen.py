"""A chosen model with its keys."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import OptionList, Static

from engine.contract.messages import InputError
from engine.contract.model_reports import ShownModel
from sft_tui import here, model_view
from sft_tui.screen import launch_screen
from sft_tui.screen.app import SftTuiApp
from sft_tui.screen.base import Options
from sft_tui.screen.launch_screen import LaunchScreen
from sft_tui.screen.model_screen import ModelScreen
from tests.sft_tui.screen.conftest import SOUND, until
from tests.sft_tui.test_model_view import SHOWN

Steps = Callable[[Pilot[int], ModelScreen], Awaitable[None]]
FILES = {"train_file": "t.parquet", "validation_file": "v.parquet", "test_file": "v.parquet"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(here, "scan", lambda *_: iter([]))
    monkeypatch.setattr(model_view, "shown", lambda _path: SHOWN)


def play(steps: Steps, size: tuple[int, int] = (120, 40), path: str = "models/smol") -> None:
    async def go() -> None:
        app = SftTuiApp(Options(Path("logs")))
        async with app.run_test(size=size) as pilot:
            app.open_model(path, FILES)
            await until(pilot, lambda: isinstance(app.screen, ModelScreen) and app.screen.is_mounted)
            screen = app.screen
            assert isinstance(screen, ModelScreen)
            await steps(pilot, screen)

    asyncio.run(asyncio.wait_for(go(), 60))


def footer(screen: ModelScreen) -> str:
    return "".join(part for line in screen.bottom_lines(120) for part, _ in line)


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    found: list[Any] = []
    monkeypatch.setattr(SftTuiApp, "launch_with", lambda _app, name, values: found.append((name, values)))
    return found


@pytest.mark.parametrize("size", [(120, 40), (60, 20)])
def test_a_model_is_shown_with_what_would_learn(size: tuple[int, int], launched: list[Any]) -> None:
    async def steps(pilot: Pilot[int], screen: ModelScreen) -> None:
        await until(pilot, lambda: screen.found)
        assert "134,515,008 parameters" in str(screen.query_one("#facts", Static).content)
        assert "enter prepare the run" in footer(screen)
        ways = [str(option.prompt) for option in screen.query_one("#ways", OptionList).options]
        assert ways[0].startswith("LoRA r 16")
        assert "t.parquet" in str(screen.query_one("#ways").border_subtitle)
        await pilot.press("tab")
        assert screen.focused is screen.query_one("#about")
        await pilot.press("shift+tab", "down", "enter")
        assert launched == [("chat", {"pretrained_model": "models/smol", **FILES})]

    play(steps, size)


def test_enter_before_the_model_is_read_takes_the_first_way(
    monkeypatch: pytest.MonkeyPatch, launched: list[Any]
) -> None:
    import threading

    known = threading.Event()

    def shown(_path: str) -> ShownModel:
        known.wait(30)
        return SHOWN

    monkeypatch.setattr(model_view, "shown", shown)

    async def steps(pilot: Pilot[int], screen: ModelScreen) -> None:
        assert "enter" not in footer(screen)
        await pilot.press("enter")
        assert not launched
        assert "as soon as this is read" in screen.notice[0]
        known.set()
        await until(pilot, lambda: launched)
        assert launched[0][0] == "chat-lora"
        assert screen.found is not None

    try:
        play(steps)
    finally:
        known.set()


def test_a_model_that_cannot_be_used_says_why(monkeypatch: pytest.MonkeyPatch, launched: list[Any]) -> None:
    def shown(_path: str) -> ShownModel:
        raise InputError("hub_name_bad", name="x")

    monkeypatch.setattr(model_view, "shown", shown)

    async def steps(pilot: Pilot[int], screen: ModelScreen) -> None:
        await until(pilot, lambda: screen.fault)
        await pilot.press("enter")
        assert not launched

    play(steps)


def test_the_launch_screen_gets_the_model_and_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch_screen, "SETTLED_SECONDS", 0.0)
    monkeypatch.setattr(launch_screen, "check", lambda *_: SOUND)

    async def steps(pilot: Pilot[int], screen: ModelScreen) -> None:
        await until(pilot, lambda: screen.found)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, LaunchScreen) and pilot.app.screen.state.report)
        launch = pilot.app.screen
        assert isinstance(launch, LaunchScreen)
        assert (launch.state.preset, launch.state.config.pretrained_model) == ("chat-lora", "models/smol")
        assert launch.state.config.train_file == "t.parquet"

    play(steps)


def test_foreign_text_is_neither_markup_nor_read_by_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: str) -> ShownModel:
        raise InputError("folder_unwritable", path=path, setting="x", why="no")

    monkeypatch.setattr(model_view, "shown", refused)
    monkeypatch.setitem(FILES, "train_file", "data [v2].parquet")

    async def steps(pilot: Pilot[int], screen: ModelScreen) -> None:
        await until(pilot, lambda: screen.fault)
        assert "models/␛[2J" in str(screen.query_one("#facts", Static).content)
        assert "[v2].parquet" in str(screen.query_one("#ways").border_subtitle)

    play(steps, path="models/\x1b[2J")


def test_what_was_asked_for_early_moves_nobody_who_reads_something_else(
    launched: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = threading.Event()

    def shown(_path: str) -> ShownModel:
        known.wait(30)
        return SHOWN

    monkeypatch.setattr(model_view, "shown", shown)

    async def steps(pilot: Pilot[int], screen: ModelScreen) -> None:
        await pilot.press("enter", "question_mark")
        await until(pilot, lambda: not screen.in_front)
        known.set()
        await until(pilot, lambda: screen.found)
        assert launched == []

    try:
        play(steps)
    finally:
        known.set()
