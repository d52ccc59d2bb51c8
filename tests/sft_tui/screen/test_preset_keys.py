"""Presets of one's own from the screens before a run: saved, replaced, deleted; the last values; the command line."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from engine.contract.presets import preset, save
from sft_tui import remembered
from sft_tui.preflight.check import Report
from sft_tui.preflight.finding import Finding
from sft_tui.screen import preset_keys
from sft_tui.screen.app import SftTuiApp
from sft_tui.screen.launch_screen import LaunchScreen
from sft_tui.screen.settings_screen import SettingsScreen
from tests.sft_tui.screen.conftest import SOUND, shown, until


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.mark.parametrize("form", [False, True])
def test_settings_are_saved_as_a_preset_and_it_is_chosen(form: bool, played: Callable[..., None]) -> None:
    async def steps(pilot: Pilot[int], launch: LaunchScreen) -> None:
        screen: Any = launch
        if form:
            await pilot.press("e")
            await until(pilot, lambda: isinstance(launch.app.screen, SettingsScreen))
            screen = launch.app.screen
        await pilot.press("w")
        assert "Nothing differs from sft-small" in screen.notice[0]
        launch.take_values({"epochs": 7, "train_file": "mine.parquet"})
        await pilot.press("w", *"../x", "enter")
        assert "cannot be the name of a preset" in screen.notice[0]
        assert screen.question.typed == "../x"
        await pilot.press("ctrl+u", *"sft", "enter")
        assert "comes with the program" in screen.notice[0]
        await pilot.press("ctrl+u", *"mine", "enter")
        assert "presets/mine.toml" in screen.notice[0]
        assert launch.state.preset == "mine"
        assert launch.state.values == {}
        assert launch.state.config.epochs == 7

    played(SOUND, steps)
    assert Path("presets/mine.toml").read_text() == 'parent = "sft-small"\ntrain_file = "mine.parquet"\nepochs = 7\n'


def test_an_own_preset_comes_first_with_its_changes_and_is_replaced(played: Callable[..., None]) -> None:
    async def steps(pilot: Pilot[int], launch: LaunchScreen) -> None:
        save("mine", "sft-small", {"epochs": 7}, Path("presets"), words="answers of a shop", replaces=False)
        launch.refresh_presets()
        assert next(iter(launch.state.presets)) == "mine"
        assert "· mine" in shown(launch)
        launch.choose("mine")
        assert "answers of a shop · epochs" in shown(launch)
        launch.take_values({"learn_rate": 1e-3})
        await pilot.press("w", "enter")  # under its own name
        assert "Replace presets/mine.toml?" in shown(launch)
        await pilot.press("n")
        assert preset("mine").config.learn_rate == 5e-5
        await pilot.press("w", "enter", "y")
        assert preset("mine").changes() == {"epochs": 7, "learn_rate": 1e-3}
        assert preset("mine").help == "answers of a shop"
        assert preset("mine").parent == "sft-small"

    played(SOUND, steps)


def test_only_a_preset_of_ones_own_is_deleted_and_asked_about(played: Callable[..., None]) -> None:
    async def steps(pilot: Pilot[int], launch: LaunchScreen) -> None:
        await pilot.press("D")
        assert "sft-small comes with the program" in launch.notice[0]
        for name, parent in (("mine", "sft"), ("heir", "mine")):
            save(name, parent, {"epochs": 7}, Path("presets"), replaces=False)
        launch.refresh_presets()
        launch.choose("mine")
        await pilot.press("D", "y")
        assert "Other presets begin with mine: heir" in launch.notice[0]
        launch.choose("heir")
        await pilot.press("D")
        assert "Delete the preset presets/heir.toml?" in shown(launch)
        await pilot.press("n")
        assert Path("presets/heir.toml").exists()
        await pilot.press("D", "y")
        assert not Path("presets/heir.toml").exists()
        assert launch.state.preset == "mine"
        assert "heir" not in launch.state.presets

    played(SOUND, steps)


def test_the_last_values_are_offered_and_taken_only_by_the_key(played: Callable[..., None]) -> None:
    async def steps(pilot: Pilot[int], launch: LaunchScreen) -> None:
        await pilot.press("u")
        assert "was not started with other values" in launch.notice[0]
        values = {"tokenizer": "my tokenizer", "epochs": 3, "learn_rate": 1e-3}  # 3 is the preset's own
        remembered.remember_values(Path("logs"), "sft-small", values)
        launch.choose("sft-small")
        await until(pilot, lambda: "u: as last time (tokenizer, learn_rate)" in shown(launch))
        assert launch.state.values == {}
        await pilot.press("u")
        assert launch.state.values == {"tokenizer": "my tokenizer", "learn_rate": 1e-3}
        assert "tokenizer, learn_rate" in launch.notice[0]
        await until(pilot, lambda: not launch.state.last)
        assert "as last time" not in shown(launch)

    played(SOUND, steps)


def test_the_command_line_is_shown_in_full_and_copied(
    played: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[str] = []
    monkeypatch.setattr(preset_keys.PresetKeys, "copy", lambda _screen, words: copied.append(words))
    long = "data/" + "x" * 200

    async def steps(pilot: Pilot[int], launch: LaunchScreen) -> None:
        launch.take_values({"train_file": long, "epochs": 7})
        await pilot.press("K")
        assert "sft-tui run sft-small" in shown(launch)
        assert "--epochs 7" in shown(launch)
        await pilot.press("escape", "K", "y")
        assert launch.question is None

    played(SOUND, steps)
    assert copied == [f"sft-tui run sft-small --train_file {long} --epochs 7"]


def test_another_folder_of_logs_is_part_of_the_command_line(played: Callable[..., None]) -> None:
    async def steps(_pilot: Pilot[int], launch: LaunchScreen) -> None:
        assert launch.command_line() == "sft-tui run sft-small"
        launch.services.options = replace(launch.services.options, logs=Path("my logs"))
        assert launch.command_line() == "sft-tui run sft-small --logs 'my logs'"

    played(SOUND, steps)


def test_a_run_goes_into_the_queue_with_its_values(
    played: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    queued: list[tuple[Any, ...]] = []
    monkeypatch.setattr(SftTuiApp, "enqueue", lambda _app, *run: queued.append(run))

    async def steps(pilot: Pilot[int], launch: LaunchScreen) -> None:
        launch.services.launch_with("sft", {"epochs": 7}, "sft-3")
        await until(pilot, lambda: launch.state.report is SOUND)
        await pilot.press("Q")

    played(SOUND, steps)
    assert queued == [("sft", {"epochs": 7}, "sft-3")]


def test_a_run_is_queued_behind_the_one_in_its_folder(
    played: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    queued: list[tuple[Any, ...]] = []
    monkeypatch.setattr(SftTuiApp, "enqueue", lambda _app, *run: queued.append(run))
    busy = Finding("error", "busy", "output_dir", {"path": "out", "run": "sft-small-1"})

    async def steps(pilot: Pilot[int], launch: LaunchScreen) -> None:
        await until(pilot, lambda: "✗ 1" in shown(launch))
        assert "Q queue" in shown(launch)
        await pilot.press("enter", "Q")

    played(Report([busy]), steps)
    assert queued == [("sft-small", {}, "")]


def test_a_run_says_which_run_its_settings_are_from(played: Callable[..., None], started: list[Any]) -> None:
    async def steps(pilot: Pilot[int], launch: LaunchScreen) -> None:
        launch.services.launch_with("sft", {"epochs": 7}, "sft-3")
        assert "With the settings of sft-3" in launch.notice[0]
        await until(pilot, lambda: launch.state.report is SOUND)
        await pilot.press("enter")
        await until(pilot, lambda: started)

    played(SOUND, steps)
    assert started == [("sft", {"epochs": 7}, {"based_on": "sft-3"})]
