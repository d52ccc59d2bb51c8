"""The launch screen with its keys, without a terminal and without a process: what is offered, queued, ended."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from engine.contract import presets
from engine.contract.config import RunConfig
from engine.contract.durable import write_json
from engine.contract.facts import DataFacts
from engine.contract.messages import InputError
from engine.contract.outputdir import OutputDir
from engine.contract.presets import Preset
from sft_tui import demo, remembered
from sft_tui.preflight.check import Report
from sft_tui.preflight.fix import Resume
from sft_tui.preflight.request import CheckRequest
from sft_tui.screen import launch_screen, preset_states
from sft_tui.screen.app import SftTuiApp
from sft_tui.screen.base import Options
from sft_tui.screen.here_screen import HereScreen
from sft_tui.screen.launch_screen import LaunchScreen
from sft_tui.screen.preset_states import PresetStates
from sft_tui.screen.settings_screen import SettingsScreen
from tests.sft_tui.screen.conftest import SOUND, FakeCommand, report, shown, until
from tests.sft_tui.some_facts import step_facts


def test_it_begins_with_the_preset_that_a_person_most_probably_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(LaunchScreen, "look", lambda _screen: None)
    presets.save("mine", "sft-small", {"epochs": 2}, Path("presets"), replaces=False)
    Path("data").mkdir()
    Path(RunConfig().train_file).touch()

    async def began() -> str:
        app = SftTuiApp(Options(Path("logs")))
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("n")
            await until(pilot, lambda: isinstance(app.screen, LaunchScreen) and app.screen.is_mounted)
            assert isinstance(app.screen, LaunchScreen)
            return app.screen.state.preset

    assert asyncio.run(asyncio.wait_for(began(), 60)) == "mine"
    for name in ("chat", "gone", "demo"):
        remembered.remember_values(Path("logs"), name, {})
    assert asyncio.run(asyncio.wait_for(began(), 60)) == "chat"


@pytest.mark.parametrize("spoil", [Path.unlink, lambda file: file.write_text("epochz = 3")], ids=["gone", "spoilt"])
def test_a_preset_that_becomes_unreadable_leaves_the_list(
    spoil: Callable[[Path], object], played: Callable[..., None]
) -> None:
    file = Path("presets/shop.toml")

    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        file.parent.mkdir()
        file.write_text("epochs = 7")
        screen.refresh_presets()
        screen.choose("shop")
        assert "shop" in shown(screen)
        assert screen.state.config.epochs == 7
        await pilot.press("tab", "tab", "e", "e", "x")
        spoil(file)
        screen.refresh_presets()
        assert screen.state.preset == "shop"
        assert isinstance(screen.app.screen, SettingsScreen)
        await pilot.press("escape", "escape")
        await until(pilot, lambda: screen.watcher is None)
        screen.refresh_presets()
        assert screen.state.preset == "sft-small"
        assert "shop" not in shown(screen)
        await pilot.press("down", "up", "e", "escape")

    played(report(), steps)


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
        assert "enter start" not in shown(screen).splitlines()[-1]
        assert "f fix" in shown(screen).splitlines()[-1]
        await pilot.press("enter")
        assert "1 error in the way" in screen.notice[0]
        await pilot.press("h")
        assert "1 error in the way" in screen.notice[0]

    played(report(Resume("mine-1")), steps)


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
    assert started == [("sft-small", {}, {"based_on": ""})]


def test_nothing_is_started_or_fixed_by_a_check_of_other_settings(
    played: Callable[..., None], started: list[Any]
) -> None:
    ready = threading.Event()

    def slow(request: CheckRequest, *_: object) -> Report:
        if request.config.epochs == 7:
            ready.wait(30)
            return SOUND
        return report(Resume("mine-1"))

    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        await until(pilot, lambda: "✗ 1" in shown(screen))
        screen.take_values({"epochs": 7})
        await pilot.pause()
        assert "✗ 1" not in shown(screen)
        assert "checking …" in shown(screen)
        await pilot.press("f")
        assert screen.question is None
        assert "Still checking" in screen.notice[0]
        await pilot.press("enter")
        assert "starts when the check is done" in shown(screen)
        assert not started
        ready.set()
        await until(pilot, lambda: started)

    played(slow, steps)
    assert started == [("sft-small", {"epochs": 7}, {"based_on": ""})]


def test_settings_are_there_again_after_the_screen_was_left(played: Callable[..., None]) -> None:
    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        screen.take_values({"epochs": 7})
        await pilot.press("e", "escape", "escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, HereScreen))
        await pilot.press("n")
        await until(pilot, lambda: isinstance(pilot.app.screen, LaunchScreen))
        again = pilot.app.screen
        assert isinstance(again, LaunchScreen)
        assert again is not screen
        await until(pilot, lambda: again.state.report is SOUND)
        assert (again.state.preset, again.state.values, again.state.config.epochs) == ("sft-small", {"epochs": 7}, 7)
        again.choose("sft")
        await pilot.press("escape", "n")
        await until(pilot, lambda: isinstance(pilot.app.screen, LaunchScreen) and pilot.app.screen is not again)
        assert pilot.app.screen.state.values == {}  # type: ignore[attr-defined]

    played(SOUND, steps)


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


def test_a_demo_that_was_asked_for_here_is_opened(
    played: Callable[..., None], commands: list[FakeCommand], started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo.Story, "current", lambda story: "demo-1" if commands and story is demo.CHAT else "")

    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        screen.choose("demo")
        await pilot.press("enter")
        await asyncio.to_thread(commands[0].done, 0, "demo-1")
        assert started == ["demo-1"]

    played(SOUND, steps)


def test_the_demo_does_not_interrupt_typing(
    played: Callable[..., None], commands: list[FakeCommand], started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[bool] = []
    monkeypatch.setattr(demo.Story, "current", lambda story: "demo-1" if begun and story is demo.CHAT else "")

    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        screen.choose("demo")
        await pilot.press("enter", "enter")
        (command,) = commands  # once, whatever is pressed
        assert command.arguments == ("demo", "--detach", "--logs", "logs")
        await pilot.press("tab", "tab", "e", "e", "a")
        begun.append(True)
        await asyncio.to_thread(command.done, 0, "demo-1")
        assert started == []
        settings = screen.app.screen
        assert isinstance(settings, SettingsScreen)
        assert "demo-1 has begun" in settings.notice[0]
        await pilot.press("escape", "escape", "enter")
        assert len(commands) == 1  # on a setting, enter opens the settings
        await pilot.press("escape", "tab", "enter")
        assert started == ["demo-1"]  # which runs: it is opened at once
        assert len(commands) == 1

    played(SOUND, steps)


def test_a_start_in_spite_of_errors_asks_first(played: Callable[..., None], started: list[Any]) -> None:
    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        assert "F start anyway" in shown(screen).splitlines()[-1]
        await pilot.press("F")
        said = " ".join(shown(screen).split())
        assert "Start in spite of 1 error? The first: " in said
        await pilot.press("n")
        assert not started
        await pilot.press("F", "y")
        await until(pilot, lambda: started)

    played(report(Resume("mine-1")), steps)
    assert started == [("sft-small", {}, {"based_on": ""})]


def test_what_is_refused_in_any_case_is_not_asked(played: Callable[..., None]) -> None:
    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        await pilot.press("F")
        assert screen.question is None
        assert "does not exist" in screen.notice[0]

    played(report(), steps)


def test_without_errors_there_is_nothing_to_force(played: Callable[..., None], started: list[Any]) -> None:
    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        assert "F start anyway" not in shown(screen)
        await pilot.press("F")
        assert "The check has found no error" in screen.notice[0]

    played(SOUND, steps)
    assert not started


def test_a_rehearsal_within_a_limit(played: Callable[..., None], commands: list[FakeCommand]) -> None:
    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        await pilot.press("H", *"8XB", "enter")
        assert '"8XB" is not a valid size' in shown(screen)
        assert not commands
        await pilot.press("backspace", "backspace", *"GB", "enter")
        assert commands[0].arguments == ("rehearse", "sft-small", "--memory-limit", "8GB")
        assert "rehearse sft-small --memory-limit 8GB" in shown(screen)

    played(Report([*SOUND.findings], DataFacts(steps=step_facts(per_epoch=5, total=10))), steps)


def test_the_data_of_the_settings_is_shown(played: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[RunConfig] = []
    monkeypatch.setattr(SftTuiApp, "open_data", lambda _app, config: opened.append(config))

    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        screen.take_values({"train_file": "shop.parquet"})
        await pilot.press("d")
        assert [config.train_file for config in opened] == ["shop.parquet"]
        screen.take_values({"train_file": "", "validation_file": "", "test_file": ""})
        await pilot.press("d")
        assert "No data file is set" in screen.notice[0]
        assert len(opened) == 1

    played(SOUND, steps)


def test_a_run_that_waits_for_the_check_does_not_interrupt_typing(
    played: Callable[..., None], started: list[Any]
) -> None:
    known = threading.Event()

    def check(*_: object) -> Report:
        known.wait(30)
        return SOUND

    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        screen.take_values({"epochs": 7})
        await pilot.press("enter", "w", *"own")
        known.set()
        await until(pilot, lambda: screen.state.report is SOUND)
        assert started == []
        assert screen.question is not None
        assert screen.question.typed == "own"
        await pilot.press("escape")
        await until(pilot, lambda: started)

    try:
        played(check, steps)
    finally:
        known.set()


def test_presets_are_looked_at_in_a_thread_while_the_screen_is_used(
    played: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    readers: list[threading.Thread] = []
    read = presets.presets

    def noted() -> dict[str, Preset]:
        readers.append(threading.current_thread())
        return read()

    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        monkeypatch.setattr(preset_states, "presets", noted)
        file = Path("presets/shop.toml")
        file.parent.mkdir()
        file.write_text("epochs = 7")
        screen.refresh_behind()
        await until(pilot, lambda: "shop" in shown(screen))
        assert threading.main_thread() not in readers
        number = screen._refreshed
        screen.refresh_presets()
        screen._show_seen(number, PresetStates({}, {}, False, {}))  # read before, and too late
        assert "shop" in shown(screen)

    played(SOUND, steps)


def test_a_preset_that_is_gone_is_said(played: Callable[..., None]) -> None:
    async def steps(_pilot: Pilot[int], screen: LaunchScreen) -> None:
        with pytest.raises(InputError, match="gone"):
            screen.services.launch_with("gone", {"epochs": 7})
        assert screen.state.preset == "sft-small"

    played(SOUND, steps)


def test_a_preset_in_a_file_anywhere_is_shown_and_stays(played: Callable[..., None]) -> None:
    file = Path("deep/own.toml")

    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        file.parent.mkdir()
        file.write_text("epochs = 7")
        screen.services.launch_with(str(file), {"output_dir": "out"})
        assert "deep/own.toml" in shown(screen)
        Path("presets").mkdir()
        Path("presets/shop.toml").write_text("epochs = 8")
        screen.refresh_behind()
        await until(pilot, lambda: "shop" in screen.state.presets)
        assert (screen.state.preset, screen.state.config.epochs) == (str(file), 7)
        file.unlink()
        screen.refresh_presets()
        assert screen.state.preset == "shop"

    played(SOUND, steps)
