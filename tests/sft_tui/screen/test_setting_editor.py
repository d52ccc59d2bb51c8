"""The editor of one setting: a line, choices, or marked parts, next to the line that it belongs to."""

import asyncio

import pytest
from textual.app import App, ComposeResult
from textual.pilot import Pilot

from sft_tui.screen.ink import Ink
from sft_tui.screen.setting_editor import ERROR, FRAME, MOST, SettingEditor


class Alone(App[None]):
    def compose(self) -> ComposeResult:
        yield SettingEditor()

    @property
    def editor(self) -> SettingEditor:
        return self.query_one(SettingEditor)


def with_editor(check: object) -> None:
    async def go() -> None:
        app = Alone()
        async with app.run_test(size=(80, 24)) as pilot:
            await check(pilot, app.editor)  # type: ignore[operator]

    asyncio.run(asyncio.wait_for(go(), 60))


def test_enter_submits_the_text_as_it_was_then() -> None:
    async def check(pilot: Pilot[None], editor: SettingEditor) -> None:
        assert not editor.display
        editor.begin_line("epochs", "3", is_path=False, hint="enter takes it")
        await pilot.press("4", "enter", "5")
        assert editor.typed == "34"
        editor.refuse("no")
        assert editor.error.display
        await pilot.press("5")
        assert editor.typed == "345"
        editor.close()
        assert not editor.display
        assert not editor.mode

    with_editor(check)


def test_parts_are_marked_and_joined_in_their_order() -> None:
    async def check(_pilot: Pilot[None], editor: SettingEditor) -> None:
        editor.begin_list("freeze", ["a", "b", "other …"], "a", {"b"}, hint="", ink=Ink())
        assert editor.typed == "b"
        editor.mark()
        assert editor.typed == "a,b"
        editor.list.highlighted = 2
        editor.mark()  # not a part
        assert editor.other_chosen
        assert editor.typed == "a,b"

    with_editor(check)


def test_one_of_several_choices_is_the_value() -> None:
    async def check(_pilot: Pilot[None], editor: SettingEditor) -> None:
        editor.begin_list("optimizer", ["adafactor", "adamw"], "adamw", None, hint="", ink=Ink())
        assert editor.typed == "adamw"
        assert not editor.other_chosen
        editor.mark()  # nothing to mark
        assert editor.typed == "adamw"

    with_editor(check)


@pytest.mark.parametrize(("row", "room", "top"), [(0, 20, 1), (18, 20, 12), (2, 5, 0), (10, 20, 11)])
def test_it_stands_below_its_line_or_above_it(row: int, room: int, top: int) -> None:
    async def check(_pilot: Pilot[None], editor: SettingEditor) -> None:
        editor.begin_line("epochs", "3", is_path=False, hint="")
        editor.place(row, room)
        assert editor.styles.offset.y.value == top
        assert editor.lines == FRAME + 1 + ERROR
        editor.begin_list("x", [str(number) for number in range(40)], "0", None, hint="", ink=Ink())
        editor.place(row, room)
        assert editor.lines == FRAME + MOST
        assert editor.styles.height is not None

    with_editor(check)
