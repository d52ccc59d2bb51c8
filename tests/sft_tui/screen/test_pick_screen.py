"""The picker of paths with its keys."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Static

from engine.contract.messages import InputError
from sft_tui import candidates, remembered
from sft_tui import here as look
from sft_tui.candidates import Candidate
from sft_tui.here import Glances
from sft_tui.preflight.ask_engine import Progress
from sft_tui.screen import pick_screen
from sft_tui.screen.app import SftTuiApp
from sft_tui.screen.base import SOURCE, Options
from sft_tui.screen.pick_screen import PickScreen
from tests.sft_tui.screen.conftest import until
from tests.sft_tui.test_here import FakeInspector, model

Steps = Callable[[Pilot[int], PickScreen], Awaitable[None]]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    here = tmp_path / "here"
    (here / "data" / "deep").mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(look, "scan", lambda *_: iter([]))
    monkeypatch.setattr(pick_screen, "Glances", lambda: Glances(FakeInspector))  # type: ignore[arg-type]
    for name in ("chats.jsonl", "faq.csv", "data/old.jsonl", "data/deep/far.jsonl"):
        (here / name).write_text('{"question": "a", "answer": "b"}\n')
    return here


def play(steps: Steps, setting: str = SOURCE, current: str = "") -> list[str]:
    chosen: list[str] = []

    async def go() -> None:
        app = SftTuiApp(Options(Path("logs")))
        async with app.run_test(size=(100, 30)) as pilot:
            app.pick_path(setting, current, chosen.append)
            await until(pilot, lambda: isinstance(app.screen, PickScreen) and app.screen.listed)
            screen = app.screen
            assert isinstance(screen, PickScreen)
            await steps(pilot, screen)

    asyncio.run(asyncio.wait_for(go(), 60))
    return chosen


def names(screen: PickScreen) -> list[str]:
    return [one.name for one in screen.listed]


def prompts(screen: PickScreen) -> str:
    return "\n".join(str(option.prompt) for option in screen.options.options)


def listed_for(screen: PickScreen, text: str) -> bool:
    return screen.typed == text and screen._listed_for == text


def test_a_second_enter_at_once_does_not_download_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[object] = []

    def obtained(chosen: object, _progress: Progress) -> str:
        begun.append(chosen)
        return "models/m"

    monkeypatch.setattr(pick_screen, "obtained", obtained)

    async def steps(pilot: Pilot[int], screen: PickScreen) -> None:
        await pilot.press(*"owner/m")
        await until(pilot, lambda: listed_for(screen, "owner/m"))
        screen.do_choose()
        screen.do_choose()  # before any thread could begin
        await until(pilot, lambda: pilot.app.screen is not screen)

    assert play(steps, "pretrained_model") == ["models/m"]
    assert len(begun) == 1


def test_typing_filters_and_enter_chooses() -> None:
    async def steps(pilot: Pilot[int], screen: PickScreen) -> None:
        assert names(screen)[:2] == ["chats.jsonl", "data/deep/far.jsonl"]
        await pilot.press("f", "a", "q", "enter")  # enter before the list is up to date
        await until(pilot, lambda: pilot.app.screen is not screen)

    assert play(steps) == ["faq.csv"]
    assert remembered.recent(Path("logs"), SOURCE) == ["faq.csv"]


def test_recent_values_come_first_with_what_they_are() -> None:
    remembered.remember(Path("logs"), SOURCE, "faq.csv")

    async def steps(pilot: Pilot[int], screen: PickScreen) -> None:
        assert names(screen)[0] == "faq.csv"
        await until(pilot, lambda: prompts(screen).count("100 rows") >= 4)
        assert "recent" in prompts(screen).splitlines()[0]
        await pilot.press("down", "enter")

    assert play(steps) == ["chats.jsonl"]


def test_folders_are_entered_and_left() -> None:
    async def steps(pilot: Pilot[int], screen: PickScreen) -> None:
        place = names(screen).index("data/")
        await pilot.press(*["down"] * place, "right")
        await until(pilot, lambda: listed_for(screen, "data/"))
        assert names(screen) == ["data/deep/", "data/old.jsonl"]
        await pilot.press("enter")  # a folder that does not fit is entered
        await until(pilot, lambda: listed_for(screen, "data/deep/"))
        await pilot.press("left")
        await until(pilot, lambda: listed_for(screen, "data/"))
        await pilot.press("left")
        await until(pilot, lambda: listed_for(screen, ""))
        await pilot.press("left")
        await until(pilot, lambda: listed_for(screen, "../"))
        await pilot.press("escape")
        await until(pilot, lambda: pilot.app.screen is not screen)

    assert play(steps) == []


def test_tab_completes_a_path() -> None:
    async def steps(pilot: Pilot[int], screen: PickScreen) -> None:
        await pilot.press(*"data/o")
        await until(pilot, lambda: listed_for(screen, "data/o"))
        await pilot.press("tab")
        await until(pilot, lambda: listed_for(screen, "data/old.jsonl"))
        await pilot.press("enter")
        await until(pilot, lambda: pilot.app.screen is not screen)

    assert play(steps) == ["data/old.jsonl"]


def test_arrows_move_within_a_text() -> None:
    async def steps(pilot: Pilot[int], screen: PickScreen) -> None:
        await pilot.press(*"fq", "left", "a")
        await until(pilot, lambda: screen.typed == "faq")
        await pilot.press("right", "right")
        assert screen.query_one("#filter", Input).cursor_position == 3

    play(steps)


def test_nothing_that_fits_says_so() -> None:
    async def steps(pilot: Pilot[int], screen: PickScreen) -> None:
        await pilot.press(*"zzz")
        await until(pilot, lambda: listed_for(screen, "zzz"))
        assert "Nothing matches" in prompts(screen)
        await pilot.press("enter")
        assert pilot.app.screen is screen

    assert play(steps) == []


def test_rows_that_a_run_cannot_read_are_imported_first(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(SftTuiApp, "open_import", lambda _app, path, _done: opened.append(path))

    async def steps(pilot: Pilot[int], _screen: PickScreen) -> None:
        await pilot.press("enter")
        await until(pilot, lambda: opened)

    assert play(steps, "train_file", "data/now.parquet") == []
    assert opened == ["chats.jsonl"]


def test_a_model_on_a_hub_is_downloaded_with_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()

    def obtain(_chosen: object, progress: Progress) -> str:
        progress("model.safetensors", 10_000_000, 93_000_000)
        go_on.wait(30)
        return "models/m"

    monkeypatch.setattr(pick_screen, "obtained", obtain)

    async def steps(pilot: Pilot[int], screen: PickScreen) -> None:
        await pilot.press(*"owner/m")
        await until(pilot, lambda: listed_for(screen, "owner/m"))
        await pilot.press("enter")
        await until(pilot, lambda: "10.00 MB of 93.00 MB" in str(screen.query_one("#progress", Static).content))
        go_on.set()
        await until(pilot, lambda: pilot.app.screen is not screen)

    try:
        assert play(steps, "pretrained_model") == ["models/m"]
    finally:
        go_on.set()


@pytest.mark.parametrize("ends", ["cancelled", "fails"])
def test_a_download_can_be_cancelled_or_fail(monkeypatch: pytest.MonkeyPatch, ends: str) -> None:
    def obtain(_chosen: object, progress: Progress) -> str:
        while ends == "cancelled":
            progress("model.safetensors", 1, 93_000_000)
            threading.Event().wait(0.01)
        raise InputError("hub_name_bad", name="m")

    monkeypatch.setattr(pick_screen, "obtained", obtain)

    async def steps(pilot: Pilot[int], screen: PickScreen) -> None:
        await pilot.press(*"owner/m")
        await until(pilot, lambda: listed_for(screen, "owner/m"))
        await pilot.press("enter")
        if ends == "cancelled":
            await until(pilot, lambda: screen.query_one("#progress").has_class("busy"))
            await pilot.press("escape")
        await until(pilot, lambda: screen.notice[0])
        assert pilot.app.screen is screen
        assert ("Cancelled" in screen.notice[0]) == (ends == "cancelled")

    assert play(steps, "pretrained_model") == []


def test_a_folder_with_a_model_is_chosen_not_entered(folder: Path) -> None:
    model(folder / "small")

    async def steps(pilot: Pilot[int], screen: PickScreen) -> None:
        await until(pilot, lambda: "chat template" in prompts(screen).splitlines()[0])
        await pilot.press("enter")
        await until(pilot, lambda: pilot.app.screen is not screen)

    assert play(steps, "pretrained_model") == ["small"]


def test_widgets_are_asked_by_their_own_thread_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    askers: set[threading.Thread] = set()

    def typed(screen: PickScreen) -> str:
        askers.add(threading.current_thread())
        return screen.query_one("#filter", Input).value

    monkeypatch.setattr(PickScreen, "typed", property(typed))

    async def steps(pilot: Pilot[int], screen: PickScreen) -> None:
        await pilot.press(*"faq")
        await until(pilot, lambda: listed_for(screen, "faq"))
        assert askers == {threading.main_thread()}

    play(steps)


def test_the_cursor_stays_when_the_terminal_changes() -> None:
    async def steps(pilot: Pilot[int], screen: PickScreen) -> None:
        await pilot.press("down", "down")
        assert screen.options.highlighted == 2
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert screen.options.highlighted == 2
        await pilot.press(*"faq")
        await until(pilot, lambda: listed_for(screen, "faq"))
        assert screen.options.highlighted == 0

    play(steps)


def test_an_early_enter_chooses_nothing_while_something_else_is_in_front(monkeypatch: pytest.MonkeyPatch) -> None:
    known, found_for = threading.Event(), candidates.candidates

    def slow(setting: str, typed: str, recent: list[str]) -> list[Candidate]:
        if typed:
            known.wait(30)
        return found_for(setting, typed, recent)

    monkeypatch.setattr(pick_screen, "found_for", slow)

    async def steps(pilot: Pilot[int], screen: PickScreen) -> None:
        app = pilot.app
        assert isinstance(app, SftTuiApp)
        await pilot.press(*"faq", "enter")
        app.do_help()
        await until(pilot, lambda: not screen.in_front)
        known.set()
        await until(pilot, lambda: listed_for(screen, "faq"))
        assert not screen.in_front
        await pilot.press("escape")
        assert screen.in_front

    try:
        assert play(steps) == []
    finally:
        known.set()
