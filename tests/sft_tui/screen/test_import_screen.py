"""The import with its keys: the rows as the importer makes them, in this process."""

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from textual.pilot import Pilot
from textual.widgets import Input, OptionList, Static

from engine.contract.import_report import ColumnsReport
from engine.contract.messages import InputError
from engine.contract.requests import ColumnsRequest, Request
from engine.data.importing import convert
from sft_tui import data_import, here, remembered
from sft_tui.preflight import ask_engine
from sft_tui.screen.app import SftTuiApp
from sft_tui.screen.base import Options
from sft_tui.screen.import_screen import ImportScreen
from tests.sft_tui.screen.conftest import plain, until

Steps = Callable[[Pilot[int], ImportScreen], Awaitable[None]]
TALK = [
    {"role": "user", "content": "Where is my order?"}, {"role": "assistant", "content": "On its way."},
    {"role": "user", "content": "Since when?"}, {"role": "assistant", "content": "Since Monday."},
]  # fmt: skip


def answered(request: Request, _kind: type, progress: ask_engine.Progress = ask_engine.nothing) -> object:
    """What the process of the engine would answer."""
    if isinstance(request, ColumnsRequest):
        return ColumnsReport(convert.columns_to_name(request, progress))
    return convert.import_files(request, progress)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(here, "scan", lambda *_: iter([]))
    monkeypatch.setattr(ask_engine, "ask", answered)
    lines = (json.dumps({"messages": [{**TALK[0], "content": f"Where is order {n}?"}, *TALK[1:]]}) for n in range(100))
    (tmp_path / "data.jsonl").write_text("\n".join(lines))
    (tmp_path / "faq.csv").write_text("Frage,Antwort,Nr\n" + "".join(f"Was ist {n}?,Das {n}.,{n}\n" for n in range(30)))
    return tmp_path


def play(source: str, steps: Steps, size: tuple[int, int] = (120, 40)) -> list[str]:
    done: list[str] = []

    async def go() -> None:
        app = SftTuiApp(Options(Path("logs")))
        async with app.run_test(size=size) as pilot:
            app.open_import(source, done.append)
            await until(pilot, lambda: isinstance(app.screen, ImportScreen) and app.screen.is_mounted)
            screen = app.screen
            assert isinstance(screen, ImportScreen)
            await steps(pilot, screen)

    asyncio.run(asyncio.wait_for(go(), 60))
    return done


def text(screen: ImportScreen, name: str) -> str:
    return " ".join(str(screen.query_one(f"#{name}", Static).content).split())


def footer(screen: ImportScreen) -> str:
    return plain(screen.bottom_lines(screen.app.size.width))


def rows(path: str) -> int:
    return int(pq.read_metadata(path).num_rows)


def test_a_second_enter_at_once_does_not_import_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[object] = []

    async def steps(pilot: Pilot[int], screen: ImportScreen) -> None:
        await until(pilot, lambda: screen.found)
        import_rows = data_import.import_rows

        def counted(*args: Any, **how: Any) -> Any:
            begun.append(args)
            return import_rows(*args, **how)

        monkeypatch.setattr(data_import, "import_rows", counted)
        screen.do_go()
        screen.do_go()  # before any thread could begin
        await until(pilot, lambda: screen.written)

    play("data.jsonl", steps)
    assert len(begun) == 1


@pytest.mark.parametrize("size", [(120, 40), (80, 24), (60, 20)])
def test_enter_shows_writes_and_continues(size: tuple[int, int]) -> None:
    async def steps(pilot: Pilot[int], screen: ImportScreen) -> None:
        await until(pilot, lambda: screen.found)
        assert "enter import" in footer(screen)
        assert "user: Where is order 0?" in text(screen, "preview")
        assert "100 conversations, 0 records refused: 85 to train on, 10 for validation, 5 for the test" in text(
            screen, "counts"
        )
        await pilot.press("enter")
        await until(pilot, lambda: screen.written)
        assert "85 conversations written to data/chat_train.parquet" in text(screen, "preview")
        assert "enter continue" in footer(screen)
        await pilot.press("enter")
        await until(pilot, lambda: pilot.app.screen is not screen)

    assert play("data.jsonl", steps, size) == ["data/chat_train.parquet"]
    assert [rows(f"data/chat_{part}.parquet") for part in ("train", "valid", "test")] == [85, 10, 5]
    assert remembered.recent(Path("logs"), "validation_file") == ["data/chat_valid.parquet"]


def test_columns_are_chosen_by_their_samples() -> None:
    async def steps(pilot: Pilot[int], screen: ImportScreen) -> None:
        await until(pilot, lambda: screen.mapping)
        options = screen.query_one("#columns", OptionList)
        assert "Which column is the prompt?" in str(options.border_title)
        assert "Was ist 0?" in str(options.options[0].prompt)
        assert "enter choose" in footer(screen)
        await pilot.press("enter")
        assert "response" in str(options.border_title)
        assert len(options.options) == 2
        await pilot.press("enter")
        await until(pilot, lambda: screen.found)
        assert "response Das 0." in text(screen, "preview")
        await pilot.press("enter")
        await until(pilot, lambda: screen.written)
        await pilot.press("escape")

    play("faq.csv", steps)
    found = pq.read_table("data/chat_train.parquet").to_pylist()[0]
    assert found["prompt"].startswith("Was ist")


def test_known_columns_may_be_chosen_otherwise(folder: Path) -> None:
    (folder / "qa.csv").write_text("question,answer,better\n" + "a?,b,c\nd?,e,f\n" * 5)

    async def steps(pilot: Pilot[int], screen: ImportScreen) -> None:
        await until(pilot, lambda: screen.found)
        assert "response b" in text(screen, "preview")
        await pilot.press("m", "enter", "down", "enter")
        await until(pilot, lambda: "response c" in text(screen, "preview"))

    play("qa.csv", steps)


def test_columns_of_conversations_cannot_be_chosen() -> None:
    async def steps(pilot: Pilot[int], screen: ImportScreen) -> None:
        await until(pilot, lambda: screen.found)
        await pilot.press("m")
        assert "no columns" in screen.notice[0]

    play("data.jsonl", steps)


def test_a_wrong_value_is_shown_in_its_place() -> None:
    async def steps(pilot: Pilot[int], screen: ImportScreen) -> None:
        await until(pilot, lambda: screen.found)
        ratio = screen.query_one("#valid_ratio", Input)
        ratio.focus()
        await pilot.press("end", *["backspace"] * 3, *"2.5")
        screen.query_one("#train", Input).focus()
        await pilot.press("enter")
        assert "not a valid share" in text(screen, "fault")
        assert screen.focused is ratio
        assert screen.written is None
        await pilot.press("end", *["backspace"] * 3, *"20%", "enter")
        await until(pilot, lambda: screen.written)
        assert text(screen, "fault") == ""

    play("data.jsonl", steps)
    assert rows("data/chat_valid.parquet") == 20


def test_every_value_is_reached_by_keys() -> None:
    async def steps(pilot: Pilot[int], screen: ImportScreen) -> None:
        await until(pilot, lambda: screen.found)
        assert "tab settings" in footer(screen)
        await pilot.press("tab")
        assert screen.focused is screen.query_one("#sample", Input)
        assert text(screen, "hint") == "The number of rows to draw at random; empty or 0: all of them."
        assert "^q quit" in footer(screen)
        await pilot.press("end", "backspace", *"40", "tab", "tab", "shift+tab")
        assert screen.focused is screen.query_one("#valid_ratio", Input)
        await pilot.press("enter")
        await until(pilot, lambda: screen.written and screen.focused is screen.query_one("#rows"))

    play("data.jsonl", steps)
    assert sum(rows(f"data/chat_{part}.parquet") for part in ("train", "valid", "test")) == 40


def test_a_history_makes_pairs_of_conversations() -> None:
    async def steps(pilot: Pilot[int], screen: ImportScreen) -> None:
        await until(pilot, lambda: screen.found)
        screen.query_one("#history", Input).focus()
        await pilot.press(*"none")
        await until(pilot, lambda: screen.found is not None and screen.found.form == "pairs")
        assert "prompt Since when?" in text(screen, "preview")
        await pilot.press("backspace")
        await until(pilot, lambda: "not a valid number of earlier turns" in text(screen, "fault"))

    play("data.jsonl", steps)


def test_a_file_without_rows_says_why(folder: Path) -> None:
    (folder / "bad.jsonl").write_text('{"a": 1}\n')

    async def steps(pilot: Pilot[int], screen: ImportScreen) -> None:
        await until(pilot, lambda: text(screen, "fault"))
        await pilot.press("enter")
        assert screen.written is None

    assert play("bad.jsonl", steps) == []


def test_an_import_can_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    def forever(request: Request, kind: type, progress: ask_engine.Progress = ask_engine.nothing) -> object:
        if not getattr(request, "train", ""):
            return answered(request, kind, progress)
        while True:
            progress("data.jsonl", 1, 100)
            threading.Event().wait(0.01)

    monkeypatch.setattr(ask_engine, "ask", forever)

    async def steps(pilot: Pilot[int], screen: ImportScreen) -> None:
        await until(pilot, lambda: screen.found)
        await pilot.press("enter")
        await until(pilot, lambda: "writing … 1 %" in text(screen, "counts"))
        await pilot.press("escape")
        await until(pilot, lambda: "Cancelled" in text(screen, "fault"))
        assert pilot.app.screen is screen

    assert play("data.jsonl", steps) == []
    assert not Path("data").exists()


def test_an_import_ends_with_a_screen_that_is_closed_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    began, over = threading.Event(), threading.Event()

    def importing(_sources: object, progress: ask_engine.Progress, **how: object) -> object:
        if "train" not in how:
            return convert_rows(_sources, progress, **how)
        began.set()
        try:
            while True:
                progress("data.jsonl", 1, 2)
                time.sleep(0.01)
        finally:
            over.set()

    convert_rows: Callable[..., object] = data_import.import_rows
    monkeypatch.setattr(data_import, "import_rows", importing)

    async def steps(pilot: Pilot[int], screen: ImportScreen) -> None:
        await until(pilot, lambda: screen.found)
        await pilot.press("enter")
        await until(pilot, began.is_set)
        pilot.app.pop_screen()
        await until(pilot, over.is_set)
        await until(pilot, lambda: not any(worker.group == "import" for worker in pilot.app.workers))
        await pilot.press("question_mark")
        assert not getattr(pilot.app, "crash", "")

    play("data.jsonl", steps)


def test_what_is_wrong_with_a_file_is_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **_how: object) -> object:
        raise InputError("import_bad_history", value="\x1b]0;title\x07")

    monkeypatch.setattr(data_import, "import_rows", refused)
    monkeypatch.setattr(data_import, "columns_to_name", lambda *_, **_how: {})

    async def steps(pilot: Pilot[int], screen: ImportScreen) -> None:
        await until(pilot, lambda: text(screen, "fault"))
        assert "␛]0;title␇" in text(screen, "fault")

    play("data.jsonl", steps)
