"""Typing on the last line."""

from collections.abc import Callable

import pytest
from textual.events import Paste
from textual.pilot import Pilot

from engine.contract.messages import InputError
from sft_tui.screen.bottom import Question
from sft_tui.screen.editor import HARMLESS, pasted
from sft_tui.screen.launch_screen import LaunchScreen
from tests.sft_tui.screen.conftest import SOUND, shown


def test_a_refused_text_stays_to_be_corrected(played: Callable[..., None]) -> None:
    taken: list[str] = []

    def answered(typed: str) -> None:
        if typed != "7":
            raise InputError("setting_empty", name="epochs", example="3")
        taken.append(typed)

    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        screen.ask(Question("epochs =", answered, typed="3"))
        await pilot.press("x", "enter")
        await pilot.pause()
        assert screen.notice == ("epochs needs a value, such as 3.", "bad")
        assert screen.question is not None
        assert screen.question.typed == "3x"
        await pilot.press("ctrl+u", "7", "enter")
        await pilot.pause()
        assert screen.question is None
        assert screen.notice == ("", "")

    played(SOUND, steps)
    assert taken == ["7"]


def test_a_line_is_edited_in_its_middle(played: Callable[..., None]) -> None:
    taken: list[str] = []

    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        screen.ask(Question("name =", taken.append, typed="old"))
        await pilot.press("ctrl+u", *"ac", "left", "b", "home", "x", "end", "y")
        assert screen.question is not None
        assert screen.question.typed == "xabcy"
        await pilot.press("home", "right", "ctrl+k", "z", "left")
        assert screen.question.typed == "xz"
        assert "name = x▏z" in shown(screen)
        await pilot.press("ctrl+w", "delete", *"q1", "enter")  # letters are text, not keys of the screen

    played(SOUND, steps)
    assert taken == ["q1"]


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
def test_a_pasted_path_is_unquoted(monkeypatch: pytest.MonkeyPatch, text: str, typed: str) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert pasted(text, is_path=True) == typed


def test_pasted_text_is_inserted_as_one_line(played: Callable[..., None]) -> None:
    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        screen.ask(Question("name =", lambda _: None, typed="a"))
        screen.post_message(Paste("'b'\nc"))
        await pilot.pause()
        assert screen.question is not None
        assert screen.question.typed == "a'b'"

    played(SOUND, steps)


def test_a_text_with_sequences_is_shown_one_character_for_one() -> None:
    text = "a\x1b[2J\u202e\udc80\n路"
    shown = HARMLESS(text).plain
    assert shown == "a␛[2J\ufffd\ufffd␊路"
    assert len(shown) == len(text)
