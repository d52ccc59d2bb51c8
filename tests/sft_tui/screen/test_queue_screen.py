"""The screen of the queue, by its keys."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from textual.pilot import Pilot

from engine.contract.events import Record, RunEnded
from engine.contract.messages import Message
from engine.contract.stream import EventReader, EventWriter
from sft_tui import runs
from sft_tui.queue import entries
from sft_tui.queue.entries import Queue
from sft_tui.queue.queue_file import QueueFolder
from sft_tui.screen.app import SftTuiApp
from sft_tui.screen.base import Options
from sft_tui.screen.launch_screen import LaunchScreen
from sft_tui.screen.queue_screen import QueueScreen, Watch
from sft_tui.screen.run_screen import RunScreen
from sft_tui.screen.runs_screen import RunsScreen
from tests.sft_tui.conftest import PLAN, STARTED, STEP
from tests.sft_tui.screen.conftest import until, write_run

Play = Callable[[Callable[[Pilot[int], QueueScreen], Awaitable[None]]], None]


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """A project, and the processes of its queue that would have been started."""
    found: list[object] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sft_tui.queue.queue_process.subprocess.Popen", lambda command, **_how: found.append(command))
    monkeypatch.setattr(LaunchScreen, "look", lambda _screen: None)
    monkeypatch.setattr("sft_tui.queue.queue_file.PATIENCE", 60.0)
    return found


@pytest.fixture
def folder(begun: list[object]) -> QueueFolder:
    found = QueueFolder(Path("logs"))
    for name in ("a", "b", "c"):
        found.add("sft-small", {"output_dir": name})
    begun.clear()
    return found


@pytest.fixture
def play() -> Play:
    """Plays steps on the screen, opened by its key."""

    def played(steps: Callable[[Pilot[int], QueueScreen], Awaitable[None]]) -> None:
        async def go() -> None:
            app = SftTuiApp(Options(Path("logs")))
            async with app.run_test(size=(120, 40)) as pilot:
                await pilot.press("W")
                screen = app.screen
                assert isinstance(screen, QueueScreen)
                await steps(pilot, screen)

        asyncio.run(asyncio.wait_for(go(), 60))

    return played


def order(folder: QueueFolder) -> list[int]:
    return [entry.number for entry in folder.read().entries]


def shown(screen: QueueScreen) -> str:
    return "\n".join("".join(text for text, _ in line) for line in screen.lines(120, 40))


def test_entries_are_reordered_with_the_cursor_on_them(folder: QueueFolder, play: Play) -> None:
    async def steps(pilot: Pilot[int], screen: QueueScreen) -> None:
        await until(pilot, lambda: len(screen.state.queue.entries) == 3)
        await pilot.press("J")
        await until(pilot, lambda: [one.number for one in screen.state.queue.entries] == [2, 1, 3])
        assert screen.state.here is not None
        assert screen.state.here.number == 1
        await pilot.press("shift+up")
        await until(pilot, lambda: [one.number for one in screen.state.queue.entries] == [1, 2, 3])
        await pilot.press("down", "K")
        await until(pilot, lambda: order(folder) == [2, 1, 3])

    play(steps)


def test_an_entry_is_removed_after_a_question(folder: QueueFolder, play: Play) -> None:
    async def steps(pilot: Pilot[int], screen: QueueScreen) -> None:
        await until(pilot, lambda: len(screen.state.queue.entries) == 3)
        await pilot.press("end", "d", "n")
        assert screen.question is None
        await pilot.press("d", "y")
        await until(pilot, lambda: order(folder) == [1, 2])

    play(steps)


@pytest.mark.usefixtures("folder")
def test_a_process_that_is_only_starting_is_not_taken_for_killed(
    begun: list[object], play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sft_tui.queue.queue_process.GRACE_SECONDS", 600.0)

    async def steps(pilot: Pilot[int], screen: QueueScreen) -> None:
        await until(pilot, lambda: screen.state.queue.entries)
        await pilot.press("p")
        await until(pilot, lambda: screen.state.queue.paused)
        await pilot.press("p")
        await until(pilot, lambda: begun and not screen.state.queue.paused)  # started, and without its lock
        looks: list[str] = []
        monkeypatch.setattr(screen, "_show_progress", looks.append)
        await until(pilot, lambda: len(looks) > 2)
        assert len(begun) == 1
        assert screen.state.alive
        assert "started again" not in shown(screen)

    play(steps)


def test_a_second_key_on_an_entry_that_is_taken_out_does_nothing(folder: QueueFolder, play: Play) -> None:
    for number in (1, 2, 3):
        folder.change(entries.changed, number, state="done", ended="finished")

    async def steps(pilot: Pilot[int], screen: QueueScreen) -> None:
        await until(pilot, lambda: len(screen.state.queue.entries) == 3)
        while screen.state.queue.entries:
            left = screen.state.queue.entries[1:]
            await pilot.press("home")
            screen.do("delete")
            screen.do("delete")
            await until(pilot, partial(lambda left: screen.state.queue.entries == left and not screen._left, left))
            assert screen.notice[0] == ""
        await pilot.press("d")
        assert screen.notice[0] == ""

    play(steps)


def test_one_key_pauses_and_continues(
    folder: QueueFolder, begun: list[object], play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sft_tui.queue.queue_process.GRACE_SECONDS", 0.3)

    async def steps(pilot: Pilot[int], screen: QueueScreen) -> None:
        await until(pilot, lambda: begun)  # its process had been killed
        await until(pilot, lambda: "started again" in shown(screen))
        await pilot.press("p")
        await until(pilot, lambda: screen.state.queue.paused)
        assert "p continues it" in shown(screen)
        begun.clear()
        await pilot.press("p")
        await until(pilot, lambda: not folder.read().paused and begun)

    play(steps)


@pytest.mark.parametrize("keys", [1, 2, 3, 4])
def test_each_key_counts_though_the_one_before_it_is_not_carried_out_yet(
    folder: QueueFolder, play: Play, keys: int
) -> None:
    async def steps(pilot: Pilot[int], screen: QueueScreen) -> None:
        await until(pilot, lambda: len(screen.state.queue.entries) == 3)
        with folder._locked():  # a change takes its time
            await pilot.press(*"p" * keys)
        await until(pilot, lambda: screen._left == 0)
        assert folder.read().paused == screen.state.queue.paused == bool(keys % 2)

    play(steps)


def test_of_the_run_that_is_running_only_what_is_new_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = write_run(tmp_path, "sft-small-1")
    log = EventWriter(run_dir.events, "rank0", 1)
    for event in (STARTED, PLAN, STEP):
        log.write(event)
    found = entries.changed(entries.added(Queue(), "sft-small", {}), 1, state="running", run="sft-small-1")
    monkeypatch.setattr(runs, "is_alive", lambda *_: True)
    begun: list[int] = []
    poll = EventReader.poll

    def noted(reader: EventReader, most: int) -> list[Record]:
        begun.append(reader.place.offset)
        return poll(reader, most)

    monkeypatch.setattr(EventReader, "poll", noted)
    watch = Watch(tmp_path)
    assert "sft-small-1 running" in watch.line(found, "en")
    before = run_dir.events.stat().st_size
    log.write(replace(STEP, step=77))
    log.close()
    assert "step 77/100" in watch.line(found, "en")
    assert begun[-1] == before
    assert watch.line(Queue(), "en") == ""
    run_dir.record.write_text("{")
    assert watch.line(found, "en") == "sft-small-1"


@pytest.mark.usefixtures("begun")
@pytest.mark.parametrize("by", ["key", "click"])
def test_an_entry_whose_preset_is_gone_says_so(play: Play, by: str) -> None:
    QueueFolder(Path("logs")).add("gone", {"output_dir": "a"})

    async def steps(pilot: Pilot[int], screen: QueueScreen) -> None:
        await until(pilot, lambda: screen.state.queue.entries)
        if by == "key":
            await pilot.press("enter")
        else:
            line = next(number for number, line in enumerate(shown(screen).splitlines()) if "▸" in line)
            await pilot.click(offset=(10, line))
        await until(pilot, lambda: "gone" in screen.notice[0])
        assert pilot.app.screen is screen

    play(steps)


def test_enter_opens_the_run_or_the_settings(folder: QueueFolder, play: Play) -> None:
    write_run(Path("logs"), "sft-small-1", RunEnded("stopped", 0, Message("ended_stopped", {"step": 3})))
    folder.change(entries.changed, 1, state="done", ended="stopped", run="sft-small-1")

    async def steps(pilot: Pilot[int], screen: QueueScreen) -> None:
        app = pilot.app
        await until(pilot, lambda: len(screen.state.queue.entries) == 3)
        await pilot.press("home", "enter")
        await until(pilot, lambda: isinstance(app.screen, RunScreen))
        await pilot.press("escape")
        assert app.screen is screen
        await pilot.press("down", "enter")
        await until(pilot, lambda: isinstance(app.screen, LaunchScreen))
        assert isinstance(app.screen, LaunchScreen)
        assert app.screen.state.values == {"output_dir": "b"}

    play(steps)


def test_a_damaged_queue_is_said_and_nothing_is_lost(folder: QueueFolder, play: Play) -> None:
    folder.file.write_text("{ damaged")

    async def steps(pilot: Pilot[int], screen: QueueScreen) -> None:
        await until(pilot, lambda: "is damaged" in shown(screen))
        await pilot.press("p")  # the first change keeps it aside
        await until(pilot, lambda: "was kept in" in shown(screen))
        assert (folder.path / "queue-damaged-1.json").read_text() == "{ damaged"

    play(steps)


def test_another_screen_adds_to_the_queue_and_the_list_of_runs_says_so(begun: list[object], play: Play) -> None:
    async def steps(pilot: Pilot[int], _screen: QueueScreen) -> None:
        app = pilot.app
        assert isinstance(app, SftTuiApp)
        await pilot.press("l")
        runs = app.screen
        assert isinstance(runs, RunsScreen)
        app.enqueue("sft-small", {"epochs": 2}, "sft-small-1")
        await until(pilot, lambda: begun)
        await until(pilot, lambda: "is in the queue" in runs.notice[0])
        await until(pilot, lambda: "queue: 1 waiting" in "".join(text for text, _ in runs.lines(120, 40)[0]))

    play(steps)
