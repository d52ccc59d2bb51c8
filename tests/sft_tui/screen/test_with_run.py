"""A run that is read in a thread before a screen acts on it."""

import asyncio
import threading
from pathlib import Path

import pytest

from engine.contract.rundir import RunDir
from sft_tui import here, runs
from sft_tui.runs import Run
from sft_tui.screen.app import SftTuiApp
from sft_tui.screen.base import Options
from sft_tui.screen.here_screen import HereScreen
from tests.sft_tui.screen.conftest import until


def test_a_run_is_read_in_a_thread_and_only_the_last_one_counts(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readers: list[threading.Thread] = []
    read, may_read = runs.read_run, threading.Event()

    def slow(run_dir: RunDir) -> Run:
        readers.append(threading.current_thread())
        may_read.wait(30)
        return read(run_dir)

    monkeypatch.setattr(here, "scan", lambda *_: iter([]))
    monkeypatch.setattr(runs, "read_run", slow)
    acted: list[str] = []

    async def go() -> None:
        app = SftTuiApp(Options(logs))
        async with app.run_test(size=(100, 30)) as pilot:
            screen = app.screen
            assert isinstance(screen, HereScreen)
            screen.with_run("sft-small-1", lambda run: acted.append(run.name))
            screen.with_run("sft-small-1", lambda run: acted.append(f"again {run.name}"))
            may_read.set()
            await until(pilot, lambda: acted)
            assert acted == ["again sft-small-1"]
            assert threading.main_thread() not in readers
            screen.with_run("gone", lambda run: acted.append(run.name))
            await until(pilot, lambda: "gone" in screen.notice[0])
            may_read.clear()
            before = len(readers)
            screen.with_run("sft-small-1", lambda run: acted.append(run.name))
            await pilot.press("question_mark")
            may_read.set()
            await until(pilot, lambda: len(readers) > before)
            await pilot.pause(0.1)
            assert len(acted) == 1  # the user reads something else

    try:
        asyncio.run(asyncio.wait_for(go(), 60))
    finally:
        may_read.set()
