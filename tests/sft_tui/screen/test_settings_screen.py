"""All settings before a run: found, changed in place, refused with the text kept, and back on the launch screen."""

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.events import Key, Paste
from textual.pilot import Pilot
from textual.widgets import OptionList, Static

from engine.contract.texts import Lang
from sft_tui.preflight.check import Report
from sft_tui.screen import launch_screen
from sft_tui.screen.app import SftTuiApp
from sft_tui.screen.base import Options
from sft_tui.screen.ink import Ink
from sft_tui.screen.launch_screen import LaunchScreen
from sft_tui.screen.settings_screen import SettingsScreen
from sft_tui.text import width
from tests.sft_tui.screen.conftest import FACTS, LEARNING, SOUND, report, until


async def opened(pilot: Pilot[int], launch: LaunchScreen, name: str = "") -> SettingsScreen:
    """The screen of settings, with the cursor on one of them, or on the first."""
    launch.services.open_settings(name)
    await until(pilot, lambda: isinstance(launch.app.screen, SettingsScreen))
    screen = launch.app.screen
    assert isinstance(screen, SettingsScreen)
    await until(pilot, lambda: screen.current == name if name else screen.current)
    return screen


def listed(screen: SettingsScreen) -> str:
    return "\n".join(str(option.prompt) for option in screen.list.options)


def test_no_key_meets_another_focus_than_the_lists(played: Callable[..., None]) -> None:
    async def steps(pilot: Pilot[int], launch: LaunchScreen) -> None:
        launch.services.open_settings()
        screen = launch.app.screen
        while screen.focused is None:  # on a slow machine there are keys by then
            await asyncio.sleep(0)
        assert isinstance(screen, SettingsScreen)
        assert screen.focused is screen.list
        await pilot.press("slash", *"epochs")
        await until(pilot, lambda: screen.find.value == "epochs")

    played(SOUND, steps)


def test_no_match_leaves_nothing_in_the_list(played: Callable[..., None]) -> None:
    async def steps(pilot: Pilot[int], launch: LaunchScreen) -> None:
        screen = await opened(pilot, launch)
        for query in ("", "/epo"):
            screen.find.value = query
            screen.relabel()
        await pilot.resize_terminal(100, 30)
        await pilot.pause()
        assert not screen.list.options
        screen.find.value = "epochs"
        await until(pilot, lambda: screen.current == "epochs")

    played(SOUND, steps)


@pytest.mark.parametrize(
    ("lang", "typed", "reported"),
    [
        ("en", "abc", "epochs = abc: it must be a whole number, such as 3."),
        ("zh", "2.5", "epochs = 2.5：应为整数，例如 3。"),
        ("en", "", "epochs needs a value, such as 3."),
        ("zh", "0", "epochs = 0：应满足 ≥ 1。"),
    ],
)
def test_a_refused_value_stays_with_the_reason_below_it(
    played: Callable[..., None], lang: Lang, typed: str, reported: str
) -> None:
    async def steps(pilot: Pilot[int], launch: LaunchScreen) -> None:
        screen = await opened(pilot, launch, "epochs")
        await pilot.press("enter", "ctrl+u", *typed, "enter")
        await until(pilot, lambda: str(screen.value.error.render()) == reported)
        assert screen.value.text.value == typed
        assert screen.typing
        await pilot.press("ctrl+u", "7")
        await until(pilot, lambda: not screen.value.error.display)
        await pilot.press("enter")
        await until(pilot, lambda: not screen.value.mode)
        assert launch.state.values == {"epochs": 7}
        assert "(was 3) 7" in listed(screen) or "（此前 3） 7" in listed(screen)
        await pilot.press("escape")
        await until(pilot, lambda: launch.app.screen is launch)
        assert launch.state.config.epochs == 7
        assert launch.watcher is None

    played(SOUND, steps, lang)


def test_settings_open_at_the_one_under_the_cursor_and_edit_nothing_else(played: Callable[..., None]) -> None:
    async def steps(pilot: Pilot[int], launch: LaunchScreen) -> None:
        await pilot.press("tab", "tab", "down", "down", "enter")
        await until(pilot, lambda: isinstance(launch.app.screen, SettingsScreen))
        screen = launch.app.screen
        assert isinstance(screen, SettingsScreen)
        await until(pilot, lambda: screen.current == "max_seq_len")
        await pilot.press("enter", "9", "escape")
        await until(pilot, lambda: not screen.value.mode)
        assert launch.state.values == {}
        await pilot.press("enter", "9", "ctrl+c")
        await until(pilot, lambda: not screen.value.mode)
        assert launch.state.values == {}
        assert launch.app.screen is screen

    played(SOUND, steps)


def test_a_key_that_follows_at_once_is_for_the_setting_under_the_cursor(played: Callable[..., None]) -> None:
    async def steps(pilot: Pilot[int], launch: LaunchScreen) -> None:
        launch.services.open_settings("max_seq_len")
        launch.app.post_message(Key("enter", "\r"))  # before the screen has a size
        await until(pilot, lambda: isinstance(launch.app.screen, SettingsScreen))
        screen = launch.app.screen
        assert isinstance(screen, SettingsScreen)
        await until(pilot, lambda: bool(screen.value.mode))
        assert screen.value.setting == "max_seq_len"
        assert screen.notice == ("", "")
        await until(pilot, lambda: screen.value.region.height >= 3 and screen.value.region.y > screen.list.region.y)

    played(SOUND, steps)


@pytest.mark.parametrize(
    ("keys", "setting"),
    [
        (["down", "down", "enter"], "test_file"),
        (["slash", *"warmup_s", "enter"], "warmup_steps"),
    ],
)
def test_keys_that_follow_at_once_move_and_search(played: Callable[..., None], keys: list[str], setting: str) -> None:
    async def steps(pilot: Pilot[int], launch: LaunchScreen) -> None:
        chosen: list[str] = []

        def edit(screen: SettingsScreen) -> None:
            screen._search()
            chosen.append(screen.current)

        launch.services.open_settings("validation_file")
        screen = launch.app.screen
        assert isinstance(screen, SettingsScreen)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(SettingsScreen, "do_edit", edit)
            for key in keys:
                launch.app.post_message(Key({"_": "underscore"}.get(key, key), key if len(key) == 1 else None))
            await until(pilot, lambda: chosen != [])
        assert chosen == [setting]
        assert screen.notice == ("", "")

    played(SOUND, steps)


@pytest.mark.parametrize("panel", ["#about", "#meaning"])
def test_keys_on_a_text_that_fits_do_nothing(played: Callable[..., None], panel: str) -> None:
    async def steps(pilot: Pilot[int], launch: LaunchScreen) -> None:
        screen = await opened(pilot, launch, "epochs")
        screen.set_focus(screen.query_one(panel))
        await pilot.press("home", "end", "pageup", "pagedown", "up", "down", "left", "right")
        assert screen.current == "epochs"
        assert launch.app.screen is screen

    played(SOUND, steps)


def test_enter_right_after_a_search_without_a_match_says_so(played: Callable[..., None]) -> None:
    async def steps(pilot: Pilot[int], launch: LaunchScreen) -> None:
        launch.services.open_settings("validation_file")
        screen = launch.app.screen
        assert isinstance(screen, SettingsScreen)
        for key in ("slash", *"zzzz", "enter"):
            launch.app.post_message(Key(key, key if len(key) == 1 else None))
        await until(pilot, lambda: screen.find.value == "zzzz" and "zzzz" in screen.notice[0])
        assert screen.value.mode == ""
        assert launch.app.screen is screen

    played(SOUND, steps)


def test_keys_that_arrive_with_the_one_that_opens_a_screen_are_for_it(played: Callable[..., None]) -> None:
    async def steps(pilot: Pilot[int], launch: LaunchScreen) -> None:
        preset = launch.state.preset
        for key in ("e", "down", "down", "enter"):
            launch.app.post_message(Key(key, key if len(key) == 1 else None))
        await until(pilot, lambda: isinstance(launch.app.screen, SettingsScreen))
        screen = launch.app.screen
        assert isinstance(screen, SettingsScreen)
        await until(pilot, lambda: bool(screen.value.setting) or launch.app.screen is not screen)
        assert launch.state.preset == preset

    played(SOUND, steps)


def test_a_search_lists_what_matches_and_enter_changes_it(played: Callable[..., None]) -> None:
    async def steps(pilot: Pilot[int], launch: LaunchScreen) -> None:
        screen = await opened(pilot, launch)
        await pilot.press("slash", *"warmup")
        await until(pilot, lambda: screen.current == "warmup_steps")
        assert "train_file" not in listed(screen)
        assert "warmup_ratio" in listed(screen)  # although it has no effect now
        await pilot.press("enter", "ctrl+u", "0", "enter")
        await until(pilot, lambda: launch.state.values == {"warmup_steps": 0})
        await pilot.press("slash", "ctrl+u", *"no such")
        await until(pilot, lambda: not screen.current)
        await pilot.press("enter")
        assert "No setting matches" in screen.notice[0]
        await pilot.press("escape")
        await until(pilot, lambda: "train_file" in listed(screen))
        assert screen.focused is screen.list

    played(SOUND, steps)


def test_keys_typed_at_once_are_taken_in_their_order(played: Callable[..., None]) -> None:
    async def steps(pilot: Pilot[int], launch: LaunchScreen) -> None:
        screen = await opened(pilot, launch)
        keys = ["slash", *"epochs", "enter", "backspace", "4", "enter"]
        for key in keys:  # without waiting for any of them
            launch.app.simulate_key(key)
        await until(pilot, lambda: launch.state.values == {"epochs": 4})
        assert not screen.value.mode

    played(SOUND, steps)


def test_choices_are_a_list_with_the_value_of_now(played: Callable[..., None]) -> None:
    async def steps(pilot: Pilot[int], launch: LaunchScreen) -> None:
        screen = await opened(pilot, launch, "optimizer")
        await pilot.press("enter")
        await until(pilot, lambda: screen.value.mode == "choices")
        assert screen.value.chosen == "adafactor"
        await pilot.press("w")  # keys of the screen wait
        assert screen.question is None
        await pilot.press("down", "enter")
        await until(pilot, lambda: launch.state.values == {"optimizer": "adamw"})
        await pilot.press("r")
        await until(pilot, lambda: launch.state.values == {})

    played(SOUND, steps)


def test_parts_that_are_frozen_are_marked_in_a_list(played: Callable[..., None]) -> None:
    async def steps(pilot: Pilot[int], launch: LaunchScreen) -> None:
        screen = await opened(pilot, launch, "freeze")
        await pilot.press("enter")
        await until(pilot, lambda: screen.value.mode == "parts")
        await pilot.press("space", "down", "space", "enter")
        await until(pilot, lambda: launch.state.values == {"freeze": "decoder,embeddings"})
        await pilot.press("enter", "up", "enter")  # the last one: another text
        await until(pilot, lambda: screen.value.mode == "line")
        await pilot.press("ctrl+u", *"layers.0-3", "enter")
        await until(pilot, lambda: launch.state.values == {"freeze": "layers.0-3"})
        await pilot.press("enter")
        assert "[x] layers.0-3" in "\n".join(str(option.prompt) for option in screen.value.list.options)

    played(SOUND, steps)


def test_the_family_decides_what_is_listed(played: Callable[..., None]) -> None:
    async def steps(pilot: Pilot[int], launch: LaunchScreen) -> None:
        launch.choose("chat")
        screen = await opened(pilot, launch)
        await until(pilot, lambda: "chat_template" in listed(screen))
        assert "num_heads" not in listed(screen)
        assert "lora_alpha" not in listed(screen)
        await pilot.press("a")
        assert "lora_alpha" in listed(screen)
        await pilot.press("a")
        launch.choose("pretrain")
        await until(pilot, lambda: "num_heads" in listed(screen) and "chat_template" not in listed(screen))

    played(SOUND, steps)


def test_a_path_is_chosen_by_the_picker_and_typed_with_e(
    played: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []

    def pick(_app: SftTuiApp, setting: str, current: str, done: Callable[[str], None]) -> None:
        asked.append((setting, current))
        done("picked.parquet")

    monkeypatch.setattr(SftTuiApp, "pick_path", pick)
    monkeypatch.setenv("HOME", "/home/me")

    async def steps(pilot: Pilot[int], launch: LaunchScreen) -> None:
        screen = await opened(pilot, launch, "train_file")
        await pilot.press("enter")
        await until(pilot, lambda: launch.state.values == {"train_file": "picked.parquet"})
        assert asked == [("train_file", "data/sft_train_small_train.parquet")]
        await pilot.press("e", "ctrl+u")
        screen.value.text.post_message(Paste("'~/my rows.parquet'\nx"))
        await until(pilot, lambda: screen.value.text.value)
        await pilot.press("enter")
        await until(pilot, lambda: launch.state.values == {"train_file": "/home/me/my rows.parquet"})

    played(SOUND, steps)


def test_the_check_is_followed_while_settings_change(played: Callable[..., None]) -> None:
    with_facts = dataclasses.replace(report(), data=FACTS, learning=LEARNING)
    checks: list[dict[str, Any]] = []

    def check(request: Any, *_: object) -> Report:
        checks.append(dict(request.values))
        return with_facts

    async def steps(pilot: Pilot[int], launch: LaunchScreen) -> None:
        screen = await opened(pilot, launch, "batch_size_per_gpu")
        await until(pilot, lambda: "939 in all" in str(screen.meaning.render()))
        await pilot.press("enter", "ctrl+u", "4", "enter")
        await until(pilot, lambda: "32 = 4 × 8" in str(screen.meaning.render()))
        await until(pilot, lambda: checks and checks[-1] == {"batch_size_per_gpu": 4})
        await pilot.press("home")
        await until(pilot, lambda: "! " in str(screen.about_it.render()) or "✗" in str(screen.about_it.render()))

    played(check, steps)


def test_nothing_moves_while_a_value_is_typed(played: Callable[..., None]) -> None:
    async def steps(pilot: Pilot[int], launch: LaunchScreen) -> None:
        screen = await opened(pilot, launch, "epochs")
        await pilot.press("enter", "1")
        launch._show_report(launch._request(launch.state), SOUND)
        await pilot.press("2")
        assert screen.value.text.value == "312"
        assert screen.current == "epochs"
        await pilot.press("tab")
        assert screen.focused is screen.value.text

    played(SOUND, steps)


def test_a_typed_key_draws_only_the_text(played: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[object] = []

    async def steps(pilot: Pilot[int], launch: LaunchScreen) -> None:
        screen = await opened(pilot, launch, "epochs")
        await pilot.press("enter")
        monkeypatch.setattr(OptionList, "replace_option_prompt", lambda *one: drawn.append(one))
        monkeypatch.setattr(OptionList, "set_options", lambda *all_: drawn.append(all_))
        monkeypatch.setattr(Static, "update", lambda *text: drawn.append(text))
        for key in "1234567":
            screen.value.text.post_message(Key(key, key))
            await until(pilot, lambda typed=key: screen.value.text.value.endswith(typed))  # type: ignore[misc]
        assert drawn == []

    played(SOUND, steps)


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("size", [(60, 20), (80, 24), (120, 40), (200, 60)])
def test_the_form_fits_any_terminal(size: tuple[int, int], lang: Lang, played: Callable[..., None]) -> None:
    async def steps(pilot: Pilot[int], launch: LaunchScreen) -> None:
        await pilot.resize_terminal(*size)
        screen = await opened(pilot, launch, "learn_rate")
        await pilot.press("enter")
        await until(pilot, lambda: screen.value.region.height)
        assert screen.region.contains_region(screen.value.region)
        assert screen.list.region.height >= 4
        longest = max(width(line) for line in listed(screen).splitlines())
        assert longest <= screen.list.content_size.width
        await pilot.resize_terminal(size[0] + 3, size[1])
        await until(pilot, lambda: screen.value.region.height)

    played(SOUND, steps, lang)


def test_another_language_and_theme_are_taken_over(played: Callable[..., None]) -> None:
    async def steps(pilot: Pilot[int], launch: LaunchScreen) -> None:
        screen = await opened(pilot, launch)
        await pilot.press("L")
        await until(pilot, lambda: "数据" in listed(screen) and "词元" in listed(screen))
        assert "训练" in str(screen.about_it.render())
        assert screen.list.border_title == "参数"
        await pilot.press("ctrl+t")
        assert isinstance(screen.services.options.ink, Ink)

    played(SOUND, steps)


def test_settings_open_where_no_launch_screen_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch_screen, "check", lambda *_: SOUND)

    async def go() -> None:
        app = SftTuiApp(Options(Path("logs")))
        async with app.run_test(size=(120, 40)) as pilot:
            app.open_settings("epochs")
            await until(pilot, lambda: isinstance(app.screen, SettingsScreen) and app.screen.current == "epochs")
            await pilot.press("escape")
            await until(pilot, lambda: isinstance(app.screen, LaunchScreen))

    asyncio.run(asyncio.wait_for(go(), 60))


def test_settings_open_from_other_screens_and_go_back_to_them(played: Callable[..., None]) -> None:
    async def steps(pilot: Pilot[int], launch: LaunchScreen) -> None:
        await pilot.press("l")
        runs = launch.app.screen
        assert runs is not launch
        await pilot.press("S")
        await until(pilot, lambda: isinstance(launch.app.screen, SettingsScreen))
        await pilot.press("S")  # they are open
        await pilot.press("escape")
        await until(pilot, lambda: launch.app.screen is runs)

    played(SOUND, steps)


def test_a_click_moves_and_a_second_one_changes(played: Callable[..., None]) -> None:
    async def steps(pilot: Pilot[int], launch: LaunchScreen) -> None:
        screen = await opened(pilot, launch)
        place = screen.list.get_option_index("max_seq_len")
        await pilot.click(screen.list, offset=(6, place + 1))
        await until(pilot, lambda: screen.current == "max_seq_len")
        assert not screen.value.mode
        await pilot.click(screen.list, offset=(6, place + 1))
        await until(pilot, lambda: screen.value.mode == "line")

    played(SOUND, steps)
