"""Typing on the last line."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from textual.events import Paste
from textual.pilot import Pilot

from engine.contract.config import FIELDS
from engine.contract.texts import Lang
from sft_tui.screen.launch_screen import LaunchScreen
from tests.sft_tui.screen.conftest import SOUND, shown


@pytest.mark.parametrize(
    ("lang", "typed", "reported"),
    [
        ("en", "abc", "epochs = abc: it must be a whole number, such as 3."),
        ("zh", "2.5", "epochs = 2.5：应为整数，例如 3。"),
        ("en", "", "epochs needs a value, such as 3."),
        ("zh", "0", "epochs = 0：应满足 ≥ 1。"),
    ],
)
def test_a_refused_value_stays_to_be_corrected(
    played: Callable[..., None], lang: Lang, typed: str, reported: str
) -> None:
    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        screen.state = replace(screen.state, panel="settings", setting=list(FIELDS).index("epochs"))
        await pilot.press("e", "ctrl+u", *typed, "enter")
        await pilot.pause()
        assert screen.notice == (reported, "bad")
        assert screen.question is not None
        assert screen.question.typed == typed
        await pilot.press("ctrl+u", "7", "enter")
        await pilot.pause()
        assert screen.question is None
        assert screen.notice == ("", "")
        assert screen.state.values == {"epochs": 7}

    played(SOUND, steps, lang)


def test_a_line_is_edited_in_its_middle(played: Callable[..., None]) -> None:
    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        await pilot.press("tab", "tab", "e", "ctrl+u", *"ac", "left", "b", "home", "x", "end", "y")
        assert screen.question is not None
        assert screen.question.typed == "xabcy"
        await pilot.press("home", "right", "ctrl+k", "z", "left")
        assert screen.question.typed == "xz"
        assert "train_file = x▏z" in shown(screen)
        await pilot.press("ctrl+w", "delete", *"q1", "enter")  # letters are text, not keys of the screen
        assert screen.state.values == {"train_file": "q1"}

    played(SOUND, steps)


@pytest.mark.parametrize(
    ("text", "typed"),
    [
        ("'my rows.parquet'\n", "my rows.parquet"),
        ('"a b"', "a b"),
        ("a\\ b.parquet", "a b.parquet"),
        ("it's.parquet", "it's.parquet"),
        ("~/x.parquet", "/home/me/x.parquet"),
        ("\n  one.parquet\ntwo.parquet\n", "one.parquet"),
        ("a\x1b]0;x\x07b", "a␛]0;x␇b"),
        ("", ""),
    ],
)
def test_a_pasted_path_is_unquoted(
    played: Callable[..., None], monkeypatch: pytest.MonkeyPatch, text: str, typed: str
) -> None:
    monkeypatch.setenv("HOME", "/home/me")

    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        await pilot.press("tab", "tab", "e", "ctrl+u")
        screen.post_message(Paste(text))
        await pilot.pause()
        assert screen.question is not None
        assert screen.question.typed == typed

    played(SOUND, steps)
