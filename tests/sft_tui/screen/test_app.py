"""The app: keys and screens."""

import asyncio
from collections.abc import Callable

from textual.events import Key
from textual.pilot import Pilot

from sft_tui.screen.bottom import Question
from sft_tui.screen.launch_screen import LaunchScreen
from tests.sft_tui.screen.conftest import SOUND, until


def test_keys_pressed_at_once_are_all_handled(played: Callable[..., None]) -> None:
    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        screen.ask(Question("file =", lambda _: None, typed="old"))
        for key in ("ctrl+u", *"/tmp/q.parquet"):  # without a pause in between, as a terminal sends what is pasted
            names = {"/": "slash", ".": "full_stop"}
            screen.app.post_message(Key(names.get(key, key), key if len(key) == 1 else None))
        await until(pilot, lambda: screen.question is not None and screen.question.typed == "/tmp/q.parquet")

    played(SOUND, steps)


def test_what_a_thread_brings_to_an_app_that_closes_is_left_out(played: Callable[..., None]) -> None:
    drawn: list[str] = []

    async def steps(_pilot: Pilot[int], screen: LaunchScreen) -> None:
        app = screen.app
        await asyncio.to_thread(app.call_from_thread, drawn.append, "before")
        app.exit()
        await asyncio.to_thread(app.call_from_thread, drawn.append, "after")

    played(SOUND, steps)
    assert drawn == ["before"]
