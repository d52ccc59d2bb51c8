"""What all screens do."""

from collections.abc import Callable
from typing import Any

from textual.events import Paste
from textual.pilot import Pilot

from engine.contract.messages import InputError
from sft_tui.preflight.fix import Resume
from sft_tui.screen.bottom import Question
from sft_tui.screen.launch_screen import LaunchScreen
from tests.sft_tui.screen.conftest import SOUND, report


def test_a_screen_that_is_too_small_obeys_only_leaving_keys(played: Callable[..., None], started: list[Any]) -> None:
    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        await pilot.press("f")
        await pilot.resize_terminal(59, 20)
        assert screen.unseen
        before = screen.state
        await pilot.press("y", "enter", "tab", "down", "escape", "ctrl+p", "l", "question_mark")
        await pilot.click(offset=(5, 5))
        screen.post_message(Paste("y"))
        await pilot.pause()
        assert screen.state == before
        assert screen.in_front
        await pilot.resize_terminal(60, 20)
        assert "Resume mine-1? y/n" in "".join(text for line in screen.lines(60, 20) for text, _ in line)
        await pilot.resize_terminal(60, 19)
        await pilot.press("q")
        assert screen.app._exit

    played(report(Resume("mine-1")), steps)
    assert started == []


def test_an_error_in_an_answer_is_shown_on_every_screen(played: Callable[..., None]) -> None:
    def refuse(_key: str) -> None:
        raise InputError("run_none", path="logs")

    async def steps(pilot: Pilot[int], screen: LaunchScreen) -> None:
        screen.ask(Question("Well? y/n", refuse))
        await pilot.press("y")
        assert "logs" in screen.notice[0]

    played(SOUND, steps)
