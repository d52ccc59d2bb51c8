"""The form with the settings that may be changed when a run is resumed."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Label

from engine.contract.record import RunRecord
from sft_tui import rerun
from sft_tui.runs import Run
from sft_tui.screen.app import SftTuiApp
from sft_tui.screen.base import Options
from sft_tui.screen.resume_screen import ResumeScreen
from tests.sft_tui.screen.conftest import until
from tests.sft_tui.screen.test_run_actions import STOPPED, made

Steps = Callable[[Pilot[int], ResumeScreen], Awaitable[None]]


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[RunRecord]:
    """What was started, in place of being started."""
    found: list[RunRecord] = []

    def begin(_app: SftTuiApp, record: RunRecord) -> Any:
        found.append(record)
        return SimpleNamespace(record=record)

    monkeypatch.setattr(SftTuiApp, "begin", begin)
    monkeypatch.setattr(SftTuiApp, "open_run", lambda *_: None)
    return found


def play(run: Run, steps: Steps, size: tuple[int, int] = (80, 24)) -> None:
    async def go() -> None:
        app = SftTuiApp(Options(Path("logs")))
        async with app.run_test(size=size) as pilot:
            app.open_resume(run)
            screen = app.screen
            assert isinstance(screen, ResumeScreen)
            await until(pilot, lambda: isinstance(screen.focused, Input))
            await steps(pilot, screen)

    asyncio.run(asyncio.wait_for(go(), 60))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    return made(STOPPED)


def meaning(screen: ResumeScreen) -> str:
    return str(screen.query_one("#meaning", Label).content)


def test_only_what_was_changed_is_changed(run: Run, begun: list[RunRecord]) -> None:
    async def steps(pilot: Pilot[int], screen: ResumeScreen) -> None:
        assert screen.focused is not None
        assert screen.focused.id == "set-epochs"
        assert len(screen.query(Input)) >= len(rerun.CHANGEABLE)
        field = screen.query_one("#set-save_steps", Input)
        field.focus()
        await until(pilot, lambda: "[steps]" in meaning(screen))
        await pilot.press("ctrl+u", *"77", "enter")
        await until(pilot, lambda: begun)
        (record,) = begun
        assert (record.config["save_steps"], record.resume, record.run) == (77, True, run.name)
        assert record.config["epochs"] == run.record.config["epochs"]

    play(run, steps)


def test_an_invalid_value_is_named_next_to_it_and_stays(run: Run, begun: list[RunRecord]) -> None:
    async def steps(pilot: Pilot[int], screen: ResumeScreen) -> None:
        await pilot.press("ctrl+u", *"abc", "down", "enter")
        error = screen.query_one("#error-epochs", Label)
        await until(pilot, lambda: error.has_class("-shown"))
        assert "epochs" in str(error.content)
        assert begun == []
        await until(pilot, lambda: screen.focused is not None and screen.focused.id == "set-epochs")
        assert screen.query_one("#set-epochs", Input).value == "abc"
        await pilot.press("backspace")
        await until(pilot, lambda: not error.has_class("-shown"))

    play(run, steps, (60, 20))


def test_a_refusal_names_a_key_and_keeps_the_form(run: Run) -> None:
    async def steps(pilot: Pilot[int], screen: ResumeScreen) -> None:
        field = screen.query_one("#set-train_file", Input)
        field.focus()
        await pilot.press("ctrl+u", *"absent", "enter")
        await until(pilot, lambda: "absent" in screen.notice[0])
        assert isinstance(pilot.app.screen, ResumeScreen)
        await pilot.press("escape")
        assert not isinstance(pilot.app.screen, ResumeScreen)

    play(run, steps)
