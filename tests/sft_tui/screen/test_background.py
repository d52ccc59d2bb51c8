"""Commands in the background."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from textual.pilot import Pilot

from sft_tui import data_import
from sft_tui.preflight.fix import Command, Import, Start
from sft_tui.screen.app import SftTuiApp
from sft_tui.screen.bottom import Question
from sft_tui.screen.launch_screen import LaunchScreen
from tests.sft_tui.screen.conftest import FakeCommand, report, shown


def test_a_run_started_by_a_command_does_not_interrupt_typing(
    played: Callable[..., None], commands: list[FakeCommand], started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Any] = []

    def begin(_app: SftTuiApp, record: Any) -> Any:
        begun.append(record)
        return type("Started", (), {"record": type("Record", (), {"run": "pretrain-1"})})

    monkeypatch.setattr(SftTuiApp, "begin", begin)

    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        await pilot.press("f", "y")
        screen.ask(Question("name =", lambda _: None, typed=""))
        await pilot.press("a")
        await asyncio.to_thread(commands[0].done, 0, "done")
        assert begun
        assert started == []
        await pilot.press("b")
        assert screen.question is not None
        assert screen.question.typed == "ab"
        assert "pretrain-1 has begun" in shown(screen)

    played(report(Command(("data", "tokenizer")), Start("pretrain")), steps)


def test_the_reason_of_a_failure_comes_before_its_fix(
    played: Callable[..., None], commands: list[FakeCommand], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_import, "columns_to_name", lambda *_, **__: {})

    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        await pilot.press("f", "y")
        printed = "reading …\nerror: None of the 3 records can be used.\n  Name the columns.\n"
        await asyncio.to_thread(commands[0].done, 2, printed)
        assert screen.notice == ("error: None of the 3 records can be used. Name the columns.", "bad")

    played(report(Import(["x.csv"], "t", "v")), steps)


def test_escape_ends_a_background_command(played: Callable[..., None], commands: list[FakeCommand]) -> None:
    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        await pilot.press("f", "y", "escape")
        assert commands[0].ended
        await asyncio.to_thread(commands[0].done, 143, "")
        assert screen.notice[0] == "Ended."
        assert not screen.state.task

    played(report(Command(("rehearse", "sft-small"))), steps)
