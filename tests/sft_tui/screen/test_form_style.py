"""Widgets of forms look as the canvas does, whatever the theme."""

import asyncio
from collections.abc import Iterable
from pathlib import Path

import pytest
from textual.color import Color
from textual.widget import Widget
from textual.widgets import OptionList

from sft_tui.screen import form_style
from sft_tui.screen.app import SftTuiApp
from sft_tui.screen.base import Options
from sft_tui.screen.form_screen import FormScreen
from sft_tui.screen.ink import THEMES, Ink, Line


class Choices(FormScreen):
    """A list of two."""

    def heading(self) -> Line:
        return [("Choices", "head")]

    def body(self) -> Iterable[Widget]:
        yield OptionList("one", "two", markup=False)


@pytest.mark.parametrize("theme", THEMES)
def test_a_list_has_the_colours_of_the_theme(theme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ink = Ink(theme)
    wanted = Color.parse(form_style.variables(ink)["ink-fore"])

    async def go() -> None:
        app = SftTuiApp(Options(Path("logs"), ink=ink))
        async with app.run_test(size=(80, 24)) as pilot:
            await app.push_screen(Choices())
            await pilot.pause()
            assert app.screen.query_one(OptionList).styles.color == wanted

    asyncio.run(asyncio.wait_for(go(), 60))


def test_a_theme_is_taken_over_by_a_form_that_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    async def go() -> None:
        app = SftTuiApp(Options(Path("logs")))
        async with app.run_test(size=(80, 24)) as pilot:
            await app.push_screen(Choices())
            await pilot.press("ctrl+t")
            await pilot.pause()
            light = Color.parse(form_style.variables(Ink("light"))["ink-back"])
            assert app.screen.query_one(OptionList).styles.background == light

    asyncio.run(asyncio.wait_for(go(), 60))


def test_a_chosen_option_can_be_recognized_without_colours() -> None:
    assert form_style.variables(Ink("none"))["ink-select-style"] == "reverse"
    assert form_style.variables(Ink("16"))["ink-select-style"] == "reverse"


def test_a_terminal_of_ascii_gets_frames_of_ascii() -> None:
    assert form_style.variables(Ink(ascii=True))["ink-border"] == "ascii"


def test_a_line_keeps_its_words_and_what_looks_like_markup() -> None:
    text = form_style.styled([("[red]a[/red] ", ""), ("好", "bad")], Ink())
    assert text.plain == "[red]a[/red] 好"
    assert [str(span.style) for span in text.spans if span.style] == ["bold #ff7b72"]


def test_a_line_has_only_ascii_where_the_terminal_has() -> None:
    assert form_style.styled([("▸ a …", "accent")], Ink(ascii=True)).plain == "> a ~"
