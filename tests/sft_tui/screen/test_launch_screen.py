"""The launch screen with its keys, without a terminal and without a process: what is fixed, edited, queued, ended."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from engine.contract.durable import write_json
from engine.contract.facts import DataFacts
from engine.contract.outputdir import OutputDir
from engine.contract.texts import Lang
from sft_tui import data_import, demo
from sft_tui.preflight.check import Report
from sft_tui.preflight.fix import Import, Open, Resume, Set, Start, System
from sft_tui.screen import launch_screen
from sft_tui.screen.launch_screen import LaunchScreen
from tests.sft_tui.screen.conftest import SOUND, FakeCommand, report, shown, until
from tests.sft_tui.some_facts import step_facts

HOSTILE = 'two && "x".parquet\n$(touch pwned)'


def test_a_setting_is_fixed_whatever_is_in_a_name(played: Callable[..., None]) -> None:
    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        await pilot.press("f")
        assert "Set train_file data/sft_train_small_train.parquet → two &&" in shown(screen)
        await pilot.press("y")
        assert screen.state.values == {"epochs": 5, "train_file": HOSTILE}

    played(report(Set("sft-small", {"epochs": 5}, {"train_file": HOSTILE})), steps)
    assert not Path("pwned").exists()


@pytest.mark.parametrize("spoil", [Path.unlink, lambda file: file.write_text("epochz = 3")], ids=["gone", "spoilt"])
def test_a_preset_that_becomes_unreadable_leaves_the_list(
    spoil: Callable[[Path], object], played: Callable[..., None]
) -> None:
    file = Path("presets/shop.toml")

    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        file.parent.mkdir()
        file.write_text("epochs = 7")
        screen._refresh()
        screen.choose("shop")
        assert "shop" in shown(screen)
        assert screen.state.config.epochs == 7
        await pilot.press("tab", "tab", "e", "x")
        spoil(file)
        screen._refresh()
        assert screen.state.preset == "shop"
        assert screen.question is not None
        await pilot.press("escape")
        screen._refresh()
        assert screen.state.preset == "sft-small"
        assert "shop" not in shown(screen)
        await pilot.press("down", "up", "e", "escape")

    played(report(), steps)


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
        assert "There are no runs in logs." in screen.notice[0]
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


def test_the_launch_footer_has_the_keys_that_act(played: Callable[..., None]) -> None:
    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        footer = shown(screen).splitlines()[-1]
        assert "start" in footer
        assert "rehearse" in footer
        assert "resume" not in footer
        assert "fix" not in footer
        for key, words in (
            ("r", "no unfinished run"),
            ("f", "This cannot be fixed from here"),
            ("backspace", "Only a setting that was changed can be reset"),
        ):
            await pilot.press(key)
            assert words in shown(screen)
        await pilot.press("tab", "tab")
        assert "enter start" not in shown(screen).splitlines()[-1]

    played(Report([*SOUND.findings], DataFacts(steps=step_facts(per_epoch=5, total=10))), steps)


def test_a_blocked_start_is_not_offered(played: Callable[..., None]) -> None:
    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        assert "start" not in shown(screen).splitlines()[-1]
        assert "f fix" in shown(screen).splitlines()[-1]
        await pilot.press("enter")
        assert "1 error in the way" in screen.notice[0]
        await pilot.press("h")
        assert "1 error in the way" in screen.notice[0]

    played(report(Resume("mine-1")), steps)


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


def test_enter_while_checking_starts_when_the_check_is_done(played: Callable[..., None], started: list[Any]) -> None:
    ready = threading.Event()

    def slow(*_: object) -> Report:
        ready.wait(30)
        return SOUND

    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        await pilot.press("enter")
        assert "starts when the check is done" in shown(screen)
        await pilot.press("escape")
        assert not screen.state.queued
        await pilot.press("enter")
        ready.set()
        await until(pilot, lambda: started)

    played(slow, steps)
    assert started == [("sft-small", {}, {})]


def test_a_run_that_ends_is_no_longer_offered(played: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch_screen, "REFRESH_SECONDS", 0.05)
    output = OutputDir(Path("model_save/sft_small"))

    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        output.checkpoint(23).mkdir(parents=True)
        owner = {"run": "sft-small-1", "steps_total": 69}
        write_json(output.owner_file, owner)
        await until(pilot, lambda: "r: resume" in shown(screen) and "sft-small-1" in shown(screen))
        write_json(output.owner_file, {**owner, "finished": True})
        await until(pilot, lambda: "sft-small-1" not in shown(screen))

    played(SOUND, steps)


def test_the_demo_does_not_interrupt_typing(
    played: Callable[..., None], commands: list[FakeCommand], started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[bool] = []
    monkeypatch.setattr(demo, "current", lambda: "demo-pretrain-1" if begun else "")

    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        screen.choose("demo")
        await pilot.press("enter", "enter")
        (command,) = commands  # once, whatever is pressed
        assert command.arguments == ("demo", "--detach", "--logs", "logs")
        await pilot.press("tab", "tab", "e", "ctrl+u", "a")
        begun.append(True)
        await asyncio.to_thread(command.done, 0, "demo-pretrain-1")
        assert started == []
        assert "demo-pretrain-1 has begun" in shown(screen)
        await pilot.press("escape", "enter")
        assert len(commands) == 1  # on a setting, enter edits
        await pilot.press("escape", "tab", "enter")
        assert started == ["demo-pretrain-1"]  # which runs: it is opened at once
        assert len(commands) == 1

    played(SOUND, steps)
