"""Keys on a form: characters to what is typed into, a widget's own keys to it, all others to the table of actions."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widget import Widget
from textual.widgets import Input, OptionList

from sft_tui.screen import actions
from sft_tui.screen.app import SftTuiApp
from sft_tui.screen.base import Options
from sft_tui.screen.bottom import Question
from sft_tui.screen.form_screen import FormScreen
from sft_tui.screen.ink import Line
from tests.sft_tui.screen.conftest import until


class Form(FormScreen):
    """A line and a list."""

    scope = actions.FORM

    def __init__(self) -> None:
        super().__init__()
        self.line, self.choices = Input(id="line"), OptionList("one", "two", id="list", markup=False)

    def heading(self) -> Line:
        return [("A form", "head")]

    def body(self) -> Iterable[Widget]:
        yield self.line
        yield self.choices


Steps = Callable[[Pilot[int], Form], Awaitable[None]]


@pytest.fixture
def form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    monkeypatch.chdir(tmp_path)

    def play(steps: Steps, size: tuple[int, int] = (80, 24)) -> None:
        async def go() -> None:
            app = SftTuiApp(Options(Path("logs")))
            async with app.run_test(size=size) as pilot:
                form = Form()
                await app.push_screen(form)
                await until(pilot, lambda: size < (60, 20) or form.line.has_focus)
                await steps(pilot, form)

        asyncio.run(asyncio.wait_for(go(), 60))

    return play


def footer(form: Form) -> str:
    return "".join(text for line in form.bottom_lines(80) for text, _ in line)


def test_letters_that_are_keys_elsewhere_are_typed(form: Callable[..., None]) -> None:
    async def steps(pilot: Pilot[int], form: Form) -> None:
        await pilot.press(*"quiL", "question_mark", "space")
        assert form.line.value == "quiL? "
        assert form.in_front
        assert "?" not in footer(form)

    form(steps)


def test_a_letter_is_a_key_on_a_list(form: Callable[..., None]) -> None:
    async def steps(pilot: Pilot[int], form: Form) -> None:
        await pilot.press("tab")
        await until(pilot, lambda: form.choices.has_focus)
        assert "? " in footer(form)
        await pilot.press("question_mark")
        await until(pilot, lambda: not form.in_front)

    form(steps)


def test_a_list_keeps_its_arrows(form: Callable[..., None]) -> None:
    async def steps(pilot: Pilot[int], form: Form) -> None:
        await pilot.press("tab", "home", "down")
        await until(pilot, lambda: form.choices.highlighted == 1)

    form(steps)


def test_tab_goes_round_and_back(form: Callable[..., None]) -> None:
    async def steps(pilot: Pilot[int], form: Form) -> None:
        await pilot.press("tab")
        await until(pilot, lambda: form.choices.has_focus)
        await pilot.press("shift+tab")
        await until(pilot, lambda: form.line.has_focus)

    form(steps)


def test_escape_leaves_the_form_while_one_types(form: Callable[..., None]) -> None:
    async def steps(pilot: Pilot[int], form: Form) -> None:
        await pilot.press("a", "escape")
        await until(pilot, lambda: not form.in_front)

    form(steps)


def test_a_question_gets_the_keys_and_then_the_line_again(form: Callable[..., None]) -> None:
    async def steps(pilot: Pilot[int], form: Form) -> None:
        answers: list[str] = []
        form.ask(Question("Really? y/n", answers.append))
        await pilot.press("x", "y")
        await until(pilot, lambda: answers == ["y"])
        await until(pilot, lambda: form.line.has_focus)
        await pilot.press("b")
        assert form.line.value == "b"

    form(steps)


def test_a_form_of_a_terminal_that_is_too_small_says_so(form: Callable[..., None]) -> None:
    async def steps(pilot: Pilot[int], form: Form) -> None:
        await pilot.pause()
        assert not form.query_one("#body").display
        title = "".join(text for text, _ in form.title_line._lines[0])
        assert "60" in title

    form(steps, (50, 10))


def test_a_click_on_the_footer_is_its_key(form: Callable[..., None]) -> None:
    async def steps(pilot: Pilot[int], form: Form) -> None:
        await pilot.press("tab")
        await until(pilot, lambda: form.choices.has_focus)
        await pilot.click(form.bottom_line, offset=(footer(form).index("?"), 0))
        await until(pilot, lambda: not form.in_front)

    form(steps)
