"""The rows of the data files with their keys, without a process: other rows and files, numbers, errors, copies."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from textual.pilot import Pilot

from engine.contract.facts import RowFacts
from engine.contract.messages import InputError
from engine.contract.presets import preset
from engine.contract.requests import RowRequest
from sft_tui.preflight.ask_engine import InspectorDied
from sft_tui.screen import data_screen
from sft_tui.screen.app import SftTuiApp
from sft_tui.screen.base import Options
from sft_tui.screen.data_screen import DataScreen
from tests.sft_tui.screen.conftest import until
from tests.sft_tui.screen.test_data_view import pair_row

Play = Callable[[Pilot[int], DataScreen], Awaitable[None]]
ROWS = 5000


class FakeInspector:
    """Knows rows whose response is their file and number; row 13 kills it."""

    made = 0

    def __enter__(self) -> "FakeInspector":
        FakeInspector.made += 1
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        pass

    def ask(self, request: RowRequest, _kind: object) -> RowFacts:
        path = str(request.config[request.setting])
        if request.row == 13:
            raise InspectorDied(request.setting, "SIGSEGV", "crash")
        if request.row >= ROWS:
            raise InputError("row_unknown", path=path, row=request.row, last=ROWS - 1)
        return pair_row("q", f"{Path(path).stem} {request.row}")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(data_screen, "Inspector", FakeInspector)
    monkeypatch.setattr(FakeInspector, "made", 0)
    for name in ("one", "two"):
        Path(f"{name}.parquet").touch()


def play(steps: Play) -> None:
    files = {"train_file": "one.parquet", "validation_file": "two.parquet", "test_file": "none.parquet"}
    config = replace(preset("sft-small").config, **files)  # type: ignore[arg-type]

    async def go() -> None:
        app = SftTuiApp(Options(Path("logs")))
        async with app.run_test(size=(120, 40)) as pilot:
            app.open_data(config)
            await until(pilot, lambda: isinstance(app.screen, DataScreen))
            screen = app.screen
            assert isinstance(screen, DataScreen)
            await until(pilot, lambda: screen.state.found)
            await steps(pilot, screen)

    asyncio.run(asyncio.wait_for(go(), 60))


def shown(screen: DataScreen) -> str:
    return "\n".join("".join(text for text, _ in line) for line in screen.lines(120, 40))


def test_other_rows_are_reached_by_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[str] = []
    monkeypatch.setattr(DataScreen, "copy", lambda _self, words: copied.append(words))

    async def steps(pilot: Pilot[int], screen: DataScreen) -> None:
        assert "  one 0 " in shown(screen)
        for key, row in (
            ("right", 1), ("left", 0), ("left", 0), ("pagedown", 10), ("pageup", 0), ("end", 4999), ("right", 4999),
            ("home", 0),
        ):  # fmt: skip
            await pilot.press(key)
            await until(pilot, lambda row=row: f"  one {row} " in shown(screen))  # type: ignore[misc]
        await pilot.press("y")
        assert "row 0 of one.parquet (5,000 rows)" in copied[0]
        await pilot.press("escape")
        assert screen.app.screen is not screen

    play(steps)
    assert FakeInspector.made == 1


def test_a_number_is_asked_for_and_corrected() -> None:
    async def steps(pilot: Pilot[int], screen: DataScreen) -> None:
        await pilot.press("g")
        assert "Row (0 to 4,999):" in shown(screen)
        await pilot.press("x", "enter")
        assert '"x" is not the number of a row' in shown(screen)
        await pilot.press("backspace", *"5000", "enter")
        assert "one.parquet has no row 5000: its rows are 0 to 4999" in shown(screen)
        await pilot.press("backspace", "enter")
        await until(pilot, lambda: "  one 500 " in shown(screen))
        await pilot.press("slash", "7", "enter")
        await until(pilot, lambda: "  one 7 " in shown(screen))

    play(steps)


def test_the_files_are_switched_and_a_missing_one_is_named() -> None:
    async def steps(pilot: Pilot[int], screen: DataScreen) -> None:
        await pilot.press("right", "tab")
        await until(pilot, lambda: "  two 0 " in shown(screen))
        assert "▸ validation file" in shown(screen)
        await pilot.press("tab")
        await until(pilot, lambda: "none.parquet does not exist" in shown(screen).replace("\n", " "))
        await pilot.press("y", "end")
        assert screen.state.row == 0
        await pilot.press("tab")
        await until(pilot, lambda: "  one 0 " in shown(screen))

    play(steps)


def test_after_a_process_that_died_another_one_reads() -> None:
    async def steps(pilot: Pilot[int], screen: DataScreen) -> None:
        await pilot.press("g", "1", "3", "enter")
        await until(pilot, lambda: "SIGSEGV" in shown(screen))
        assert "one.parquet" in shown(screen)
        await pilot.press("right")
        await until(pilot, lambda: "  one 14 " in shown(screen))

    play(steps)
    assert FakeInspector.made == 2
