"""Fixes of problems on the screen before a run: questions, choices, and what runs behind the screen."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from engine.contract.texts import Lang
from sft_tui import data_import
from sft_tui.preflight.check import Report
from sft_tui.preflight.fix import Import, Open, Resume, Set, Start, System
from sft_tui.screen.app import SftTuiApp
from sft_tui.screen.launch_screen import LaunchScreen
from tests.sft_tui.screen.conftest import SOUND, FakeCommand, report, shown, until

HOSTILE = 'two && "x".parquet\n$(touch pwned)'


def test_a_setting_is_fixed_whatever_is_in_a_name(played: Callable[..., None]) -> None:
    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        await pilot.press("f")
        assert "Set train_file data/sft_train_small_train.parquet → two &&" in shown(screen)
        await pilot.press("y")
        assert screen.state.values == {"epochs": 5, "train_file": HOSTILE}

    played(report(Set("sft-small", {"epochs": 5}, {"train_file": HOSTILE})), steps)
    assert not Path("pwned").exists()


def test_a_run_in_the_way_is_opened_on_top(
    played: Callable[..., None], started: list[Any], commands: list[FakeCommand]
) -> None:
    async def steps(pilot: Pilot[int], _screen: LaunchScreen) -> None:
        await pilot.press("f", "y")

    played(report(Open("sft-small-1")), steps)
    assert started == ["sft-small-1"]
    assert commands == []


def test_a_run_that_cannot_be_resumed_is_reported(played: Callable[..., None]) -> None:
    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        await pilot.press("f")
        assert "Resume gone-1? y/n" in shown(screen)
        await pilot.press("y")
        await until(pilot, lambda: "There are no runs in logs." in screen.notice[0])  # read in a thread
        assert screen.notice[1] == "bad"

    played(report(Resume("gone-1")), steps)


def test_rows_are_imported_and_the_other_fixes_follow(
    played: Callable[..., None], commands: list[FakeCommand], started: list[Any]
) -> None:
    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        await pilot.press("f", "y")
        (command,) = commands
        assert command.arguments == ("data", "import", HOSTILE, "--train", "a b.parquet", "--valid", "")
        assert "esc ends it" in shown(screen)
        await pilot.press("f", "y")  # one at a time
        assert len(commands) == 1
        printed = "60 records read = 60 used\n  an example\n54 rows written\nNext: `sft-tui check`\n"
        await asyncio.to_thread(command.done, 0, printed)
        assert screen.notice == ("60 records read = 60 used\n54 rows written", "good")
        assert screen.state.values == {"pretrained_model": "best"}
        assert started == [("pretrain", {"epochs": 1}, {"fresh": False})]

    rest = Start("pretrain", {"epochs": 1}), Set("sft-small", {}, {"pretrained_model": "best"})
    played(report(Import([HOSTILE], "a b.parquet", ""), *rest), steps)


def test_several_fixes_are_listed_and_one_is_chosen(played: Callable[..., None], started: list[Any]) -> None:
    ways = (Start("sft-small", {"epochs": 2}, fresh=True),), (Set("sft-small", {}, {"output_dir": "out_2"}),)
    found = Report([replace(report(Resume("mine-1")).findings[0], others=ways)])

    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        assert "3 ways, such as sft-tui resume mine-1" in shown(screen)
        await pilot.press("f")
        for words in (
            "1 Resume mine-1",
            "2 Start sft-small over and keep the old files in earlier/  sft-tui run sft-small --epochs 2 --fresh",
            "3 Set output_dir model_save/sft_small → out_2",
        ):
            assert words in shown(screen)
        await pilot.press("escape", "y")
        assert started == []
        await pilot.press("f", "4", "2")
        assert started == [("sft-small", {"epochs": 2}, {"fresh": True})]
        await pilot.press("f", "down", "down", "enter")
        assert screen.state.values == {"output_dir": "out_2"}

    played(found, steps)


@pytest.mark.parametrize(("lang", "asked"), [("en", "which column holds the prompts?"), ("zh", "哪一列是提问？")])
def test_unknown_columns_are_chosen_on_the_screen(
    played: Callable[..., None],
    commands: list[FakeCommand],
    monkeypatch: pytest.MonkeyPatch,
    lang: Lang,
    asked: str,
) -> None:
    looked: list[Any] = []

    def columns(files: list[str], **named: str) -> dict[str, str]:
        looked.append((files, named))
        return {"id": "7", "a b": "hi", "--reply": "yes"}

    monkeypatch.setattr(data_import, "columns_to_name", columns)

    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        await pilot.press("f", "y")
        await asyncio.to_thread(commands[0].done, 2, "error: None of the 3 records can be used.\n")
        await until(pilot, lambda: screen.question is not None)
        assert asked in shown(screen)
        assert "2 a b  hi" in shown(screen)
        await pilot.press("2")
        assert "2 --reply  yes" in shown(screen)  # without the one that is taken
        assert "a b  hi" not in shown(screen)
        await pilot.press("2")
        assert commands[1].arguments[-4:] == ("--prompt_column", "a b", "--response_column", "--reply")
        await asyncio.to_thread(commands[1].done, 0, "3 rows written\n")
        assert screen.state.values == {"epochs": 7}

    played(report(Import(["x.csv"], "t", "v"), Set("sft-small", {}, {"epochs": 7})), steps, lang)
    assert looked == [(["x.csv"], {"prompt_column": "", "response_column": ""})]


def test_an_import_that_fails_otherwise_asks_for_no_columns(
    played: Callable[..., None], commands: list[FakeCommand], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Any] = []

    def columns(files: list[str], **_: str) -> dict[str, str]:
        looked.append(files)
        return {}

    monkeypatch.setattr(data_import, "columns_to_name", columns)

    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        await pilot.press("f", "y")
        await asyncio.to_thread(commands[0].done, 2, "error: the disk is full\n")
        await until(pilot, lambda: looked)
        await pilot.pause(0.05)
        assert screen.question is None
        assert screen.notice == ("error: the disk is full", "bad")

    played(report(Import(["x.csv"], "t", "v")), steps)


def test_a_command_of_the_system_is_copied_and_not_run(
    played: Callable[..., None], commands: list[FakeCommand], monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[str] = []
    monkeypatch.setattr(LaunchScreen, "copy", lambda _screen, words: copied.append(words))

    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        await pilot.press("f")
        assert screen.question is None

    played(report(System(("ls", "-ld", "a b"))), steps)
    assert copied == ["ls -ld 'a b'"]
    assert commands == []


def test_enter_on_a_problem_fixes_it(played: Callable[..., None], started: list[Any]) -> None:
    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        await pilot.press("tab", "enter")
        assert screen.question is not None
        await pilot.press("y")
        assert screen.state.values == {"epochs": 4}

    played(report(Set("sft-small", {}, {"epochs": 4})), steps)
    assert started == []


def test_a_command_outlives_its_screen_and_stays_the_only_one(
    played: Callable[..., None], commands: list[FakeCommand]
) -> None:
    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        app = screen.app
        assert isinstance(app, SftTuiApp)
        await pilot.press("h")
        await until(pilot, lambda: len(commands) == 1)
        while screen.is_open:
            app.pop_screen()
        await pilot.press("n")
        again = app.screen
        assert isinstance(again, LaunchScreen)
        assert again is not screen
        await until(pilot, lambda: again.state.report is SOUND)
        await pilot.press("h")
        assert "sft-tui rehearse" in again.notice[0]
        assert len(commands) == 1
        threading.Thread(target=commands[0].done, args=(1, "Error: no memory")).start()
        await until(pilot, lambda: "no memory" in again.notice[0])
        await pilot.press("h")
        await until(pilot, lambda: len(commands) == 2)

    played(SOUND, steps)
