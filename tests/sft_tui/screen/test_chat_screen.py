"""The screen of a chat, with processes that reply by a rule."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest
from textual.events import Paste
from textual.pilot import Pilot

from engine.contract.texts import Lang
from sft_tui import conversation
from sft_tui.screen import chat_screen, chat_view
from sft_tui.screen.app import SftTuiApp
from sft_tui.screen.base import Options
from sft_tui.screen.chat_screen import ChatScreen, harmless
from sft_tui.screen.chat_view import ChatView
from sft_tui.screen.ink import Line
from tests.sft_tui.fake_replies import CHILD
from tests.sft_tui.screen.conftest import plain, until

Steps = Callable[[Pilot[int], ChatScreen], Awaitable[None]]
Played = Callable[..., None]


@pytest.fixture
def chatting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Played:
    """Plays steps on a chat with two models, or one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(conversation, "module_command", lambda _module: [sys.executable, "-c", CHILD])

    def play(
        steps: Steps,
        *,
        models: tuple[str, ...] = ("base", "tuned"),
        size: tuple[int, int] = (120, 40),
        lang: Lang = "en",
    ) -> None:
        async def go() -> None:
            app = SftTuiApp(Options(Path("logs"), lang, chat=models))
            async with app.run_test(size=size) as pilot:
                screen = app.screen
                assert isinstance(screen, ChatScreen)
                await until(pilot, lambda: {one.state for one in screen.states} == {"ready"})
                await steps(pilot, screen)

        asyncio.run(asyncio.wait_for(go(), 60))

    return play


def shown(screen: ChatScreen) -> str:
    """The whole screen as text."""
    lines: list[Line] = [*screen.title_line._lines, *screen.talk._lines, *screen.bottom_line._lines]
    return plain(lines)


async def said(pilot: Pilot[int], screen: ChatScreen, words: str) -> None:
    """Types a message, sends it, and waits for the replies."""
    await pilot.press(*words, "enter")
    await until(pilot, lambda: screen.states[0].turns and not screen.busy)


def test_both_models_reply_and_remember(chatting: Played) -> None:
    async def steps(pilot: Pilot[int], screen: ChatScreen) -> None:
        await said(pilot, screen, "hi")
        await said(pilot, screen, "so")
        for state in screen.states:
            assert [one.reply for one in state.turns] == ["0::hi", "1::so"]
        await until(pilot, lambda: shown(screen).count("1::so") == 2)
        assert screen.message.text == ""

    chatting(steps)


def test_letters_are_typed_and_a_pasted_text_stays_one_message(chatting: Played) -> None:
    async def steps(pilot: Pilot[int], screen: ChatScreen) -> None:
        screen.message.post_message(Paste("one\r\ntwo\x1b[31m"))
        await until(pilot, lambda: screen.message.text)
        assert screen.message.text == "one\ntwo␛[31m"
        await pilot.press("ctrl+j", "y", "q", "b")
        assert screen.message.text == "one\ntwo␛[31m\nyqb"
        await pilot.press("enter")
        await until(pilot, lambda: screen.states[0].turns and not screen.busy)
        assert screen.states[0].turns[0].asked == "one\ntwo␛[31m\nyqb"

    chatting(steps, models=("base",))


def test_a_reply_is_stopped_first_and_the_screen_left_then(chatting: Played) -> None:
    async def steps(pilot: Pilot[int], screen: ChatScreen) -> None:
        pids = [model.pid for model in screen.models]
        await pilot.press(*"slow", "enter")
        await until(pilot, lambda: all(one.turns and one.turns[0].reply.endswith("...") for one in screen.states))
        await pilot.press(*"more", "enter")
        assert screen.message.text == "more"
        await until(pilot, lambda: "esc stops" in shown(screen))
        await pilot.press("escape")
        await until(pilot, lambda: not screen.busy)
        await until(pilot, lambda: "stopped after" in shown(screen) and "esc leave" in shown(screen))
        assert screen.in_front
        await pilot.press("escape")
        await until(pilot, lambda: not screen.in_front)
        await until(pilot, lambda: not any(psutil.pid_exists(pid) for pid in pids))

    chatting(steps)


def test_a_new_conversation_another_system_text_and_the_last_reply_again(chatting: Played) -> None:
    async def steps(pilot: Pilot[int], screen: ChatScreen) -> None:
        await said(pilot, screen, "hi")
        await pilot.press("ctrl+s", *"terse", "enter", "ctrl+r")
        await until(pilot, lambda: not screen.busy)
        assert screen.states[1].turns[0].reply == "0:terse:hi"
        assert "terse" in shown(screen)
        await pilot.press("ctrl+n")
        assert not screen.states[0].turns
        await said(pilot, screen, "so")
        assert screen.states[0].turns[0].reply == "0:terse:so"

    chatting(steps)


def test_temperature_and_length_are_asked_until_they_are_numbers(chatting: Played) -> None:
    async def steps(pilot: Pilot[int], screen: ChatScreen) -> None:
        await pilot.press("ctrl+g", "backspace", *"hot", "enter")
        assert "not a temperature" in shown(screen)
        await pilot.press("ctrl+u", *"0.7", "enter")
        await pilot.press("ctrl+u", *"0", "enter")
        assert "not a whole number" in shown(screen)
        await pilot.press("ctrl+u", *"64", "enter")
        assert screen.settings.sampling.temperature == 0.7
        assert screen.settings.max_new_tokens == 64
        assert "temperature 0.7 · at most 64 tokens" in shown(screen)
        assert screen.focused is screen.message

    chatting(steps, models=("base",))


def test_the_last_replies_are_copied_while_typing_and_while_reading(
    chatting: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def steps(pilot: Pilot[int], screen: ChatScreen) -> None:
        copied: list[str] = []
        monkeypatch.setattr(screen, "copy", copied.append)
        await pilot.press("ctrl+y")
        assert "no reply to copy" in shown(screen)
        await said(pilot, screen, "hi")
        await pilot.press("ctrl+y", "tab", "y")
        assert copied == ["base:\n0::hi\n\ntuned:\n0::hi"] * 2
        await pilot.press("tab", "y")
        assert screen.message.text == "y"

    chatting(steps)


def test_a_process_that_dies_is_reported_and_loaded_again(chatting: Played) -> None:
    async def steps(pilot: Pilot[int], screen: ChatScreen) -> None:
        await pilot.press(*"hi", "enter")
        await until(pilot, lambda: not screen.busy)
        psutil.Process(screen.models[1].pid).kill()
        await pilot.press(*"so", "enter")
        await until(pilot, lambda: "SIGKILL" in shown(screen))
        await until(pilot, lambda: not screen.busy)
        assert screen.states[0].turns[1].reply == "1::so"
        await pilot.press("ctrl+r")
        await until(pilot, lambda: [one.reply for one in screen.states[1].turns] == ["0::hi", "1::so"])

    chatting(steps)


def test_one_scrolls_while_typing(chatting: Played) -> None:
    async def steps(pilot: Pilot[int], screen: ChatScreen) -> None:
        for number in range(8):
            await said(pilot, screen, f"a{number}")
        await until(pilot, lambda: "7::a7" in shown(screen))
        await pilot.press("ctrl+home")
        assert "0::a0" in shown(screen)
        assert "7::a7" not in shown(screen)
        await pilot.press("ctrl+end")
        assert "7::a7" in shown(screen)

    chatting(steps, models=("base",), size=(60, 20))


@pytest.mark.parametrize(("size", "lang"), [((60, 20), "zh"), ((80, 24), "en"), ((300, 80), "zh")])
def test_the_screen_has_room_at_every_size(chatting: Played, size: tuple[int, int], lang: Lang) -> None:
    async def steps(pilot: Pilot[int], screen: ChatScreen) -> None:
        await said(pilot, screen, "hi")
        assert screen.talk.size.height >= size[1] - 6
        assert screen.talk.size.width == size[0]
        await pilot.resize_terminal(50, 15)
        await pilot.pause()
        assert not screen.query_one("#body").display

    chatting(steps, size=size, lang=lang)


def test_streaming_is_drawn_ten_times_a_second_at_most(chatting: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[ChatView] = []
    usual = chat_view.draw

    def counted(view: ChatView, width: int, height: int) -> list[Line]:
        drawn.append(view)
        return usual(view, width, height)

    monkeypatch.setattr(chat_view, "draw", counted)

    async def steps(pilot: Pilot[int], screen: ChatScreen) -> None:
        await pilot.press(*"slow", "enter")
        await until(pilot, lambda: screen.states[0].turns and screen.states[0].turns[0].reply.count(".") > 10)
        drawn.clear()
        began = time.monotonic()
        before = len(screen.states[0].turns[0].reply)
        await until(pilot, lambda: len(screen.states[0].turns[0].reply) > before + 100)
        looks = (time.monotonic() - began) / chat_screen.LOOK_SECONDS
        assert 1 <= len(drawn) <= looks + 2

    chatting(steps, models=("base",))


def test_pasted_control_characters_become_visible() -> None:
    assert harmless("a\tb\r\x1b]0;x\x07") == "a   b\n␛]0;x␇"
