"""What is done with a run from its screen and from the list, by keys."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from engine.contract import events
from engine.contract.durable import write_json
from engine.contract.messages import InputError, Message
from engine.contract.outputdir import OutputDir
from engine.contract.record import RunRecord
from engine.contract.stream import EventWriter
from sft_tui import notes
from sft_tui.run_state import RunState
from sft_tui.runs import Run, read_run
from sft_tui.screen import actions, bottom
from sft_tui.screen.app import SftTuiApp
from sft_tui.screen.base import ActionScreen, Options
from sft_tui.screen.output_screen import OutputScreen
from sft_tui.screen.resume_screen import ResumeScreen
from sft_tui.screen.run_actions import require_possible
from sft_tui.screen.run_screen import RunScreen
from sft_tui.screen.runs_screen import RunsScreen
from sft_tui.starting import open_run_dir, plan_run
from tests.sft_tui.conftest import PLAN, STARTED, step
from tests.sft_tui.screen.conftest import until

FINISHED = events.RunEnded("finished", 0, Message("ended_finished_unpublished", {"steps_total": 10}))
NAME = "sft-small-1"
PLACE: dict[str, Any] = {"step": 5, "steps_total": 10, "checkpoint": "c", "resume_option": f"sft-tui resume {NAME}"}
STOPPED = events.RunEnded("stopped", 0, Message("ended_stopped", PLACE))
Steps = Callable[[Pilot[int], Any], Awaitable[None]]


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[RunRecord]:
    """What was started, in place of being started."""
    found: list[RunRecord] = []
    monkeypatch.setattr(SftTuiApp, "start_run", lambda _app, record: found.append(record))
    return found


def made(end: events.RunEnded = FINISHED) -> Run:
    """A run with a best model that ended."""
    for name in ("train", "valid", "tokenizer", "test"):
        Path(name).touch()
    Path("base").mkdir()
    write_json(Path("base/config.json"), {"model_type": "llama"})
    files = {"train_file": "train", "validation_file": "valid", "test_file": "test", "tokenizer": "tokenizer"}
    opened = open_run_dir(
        Path("logs"), plan_run("sft-small", {**files, "pretrained_model": "base", "output_dir": "out"})
    )
    output, record = OutputDir(Path("out")), opened.record
    output.checkpoint(5).mkdir(parents=True)
    output.best.mkdir()
    owner = {"run": record.run, "id": record.id, "run_dir": str(opened.run_dir.path.absolute()), "steps_total": 10}
    write_json(output.owner_file, {**owner, "config": record.config, "finished": end is FINISHED})
    log = EventWriter(opened.run_dir.events, "rank0", 1)
    for event in (STARTED, PLAN, step(5), end):
        log.write(event)
    log.close()
    return read_run(opened.run_dir)


def play(steps: Steps, *, on: str = "run", lang: Any = "en") -> None:
    async def go() -> None:
        app = SftTuiApp(Options(Path("logs"), lang, run=NAME if on == "run" else ""))
        async with app.run_test(size=(140, 40)) as pilot:
            if on == "run":
                screen = app.screen
                assert isinstance(screen, RunScreen)
                await until(pilot, lambda: screen.latest is not None and not screen.latest.behind)
            else:
                app.do_runs()
                await until(pilot, lambda: isinstance(app.screen, RunsScreen) and app.screen.state.runs)
            await steps(pilot, app.screen)

    asyncio.run(asyncio.wait_for(go(), 60))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def footer(screen: ActionScreen) -> str:
    line = bottom.footer(screen.scope, "en", 200, screen.offered)
    return "".join(text for text, _ in line)


@pytest.mark.parametrize("on", ["run", "runs"])
def test_more_epochs_are_asked_for_and_checked(begun: list[RunRecord], on: str) -> None:
    made()

    async def steps(pilot: Pilot[int], screen: ActionScreen) -> None:
        await pilot.press("E")
        assert screen.question is not None
        assert "3 epochs. How many more?" in screen.question.text
        await pilot.press("ctrl+u", "0", "enter")
        assert "not a number of further epochs" in screen.notice[0]
        await pilot.press("ctrl+u", "2", "enter")
        assert [(one.config["epochs"], one.resume, one.run) for one in begun] == [(5, True, NAME)]

    play(steps, on=on)


@pytest.mark.parametrize("on", ["run", "runs"])
def test_a_start_over_says_where_the_output_goes(begun: list[RunRecord], on: str) -> None:
    made()

    async def steps(pilot: Pilot[int], screen: ActionScreen) -> None:
        await pilot.press("a")
        assert screen.question is not None
        assert f"moves to out/earlier/{NAME}" in screen.question.text
        await pilot.press("n")
        assert begun == []
        await pilot.press("a", "y")
        assert [(one.fresh, one.resume, one.based_on) for one in begun] == [(True, False, NAME)]

    play(steps, on=on)


def test_a_test_is_started_with_the_runs_settings(begun: list[RunRecord]) -> None:
    made()

    async def steps(pilot: Pilot[int], _screen: ActionScreen) -> None:
        await pilot.press("T")
        assert [(one.job, one.config["test_file"]) for one in begun] == [("test", "test")]

    play(steps)


def test_a_new_run_gets_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    made()
    given: list[Any] = []
    monkeypatch.setattr(SftTuiApp, "launch_with", lambda _app, *args, **more: given.append((*args, more)))

    async def steps(pilot: Pilot[int], _screen: ActionScreen) -> None:
        await pilot.press("c")
        ((preset, values, more),) = given
        assert (preset, values["train_file"], more) == ("sft-small", "train", {"based_on": NAME})

    play(steps)


def test_a_chat_is_with_both_models(monkeypatch: pytest.MonkeyPatch) -> None:
    made()
    opened: list[Any] = []
    monkeypatch.setattr(SftTuiApp, "open_chat", lambda _app, models, run="": opened.append((list(models), run)))

    async def steps(pilot: Pilot[int], screen: ActionScreen) -> None:
        await pilot.press("i")
        assert opened == [(["base", "out/best"], NAME)]
        Path("out/best").rmdir()
        await pilot.press("i")
        assert "no best model" in screen.notice[0]
        assert len(opened) == 1

    play(steps)


@pytest.mark.parametrize("on", ["run", "runs"])
def test_a_note_is_typed_with_its_tags(on: str) -> None:
    run = made()

    async def steps(pilot: Pilot[int], screen: ActionScreen) -> None:
        await pilot.press("e", *"good #keep", "enter")
        assert notes.read(run.run_dir) == notes.Note("good", ["keep"])
        assert screen.notice[0] == "Noted."
        await pilot.press("e")
        assert screen.question is not None
        assert screen.question.typed == "good #keep"
        await pilot.press("ctrl+u", *"#-", "enter")
        assert "cannot be a tag" in screen.notice[0]
        assert screen.question is not None

    play(steps, on=on)


def test_output_and_form_open_from_a_run() -> None:
    made(STOPPED)

    async def steps(pilot: Pilot[int], _screen: ActionScreen) -> None:
        await pilot.press("o")
        assert isinstance(pilot.app.screen, OutputScreen)
        await pilot.press("o")
        await pilot.press("R")
        await until(pilot, lambda: isinstance(pilot.app.screen, ResumeScreen))

    play(steps)


def test_the_footer_offers_what_comes_next() -> None:
    made()

    async def steps(_pilot: Pilot[int], screen: RunScreen) -> None:
        for part in ("E more epochs", "T test", "i chat"):
            assert part in footer(screen)
        assert "r resume" not in footer(screen)

    play(steps)


def test_advice_on_the_screen_names_keys() -> None:
    made(STOPPED)

    async def steps(pilot: Pilot[int], screen: RunScreen) -> None:
        page = "\n".join("".join(text for text, _ in line) for line in screen.lines(140, 40))
        assert "Resume with `r`." in page
        assert "r resume" in footer(screen)
        assert "E more epochs" not in footer(screen)
        await pilot.press("s")
        assert "`r` resumes it" in screen.notice[0]

    play(steps)


def test_state_and_footer_of_an_ended_run_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is alive at first; all that is offered after its end is read at the same moment."""
    made(STOPPED)
    alive = [True]
    monkeypatch.setattr("sft_tui.runs.is_alive", lambda *_: alive[0])
    monkeypatch.setattr("sft_tui.feed.LOOK_SECONDS", 0.0)

    async def steps(pilot: Pilot[int], screen: RunScreen) -> None:
        seen: list[tuple[bool, bool, bool]] = []
        show = screen.show_latest

        def watched(latest: Any) -> None:
            show(latest)
            seen.append((screen.alive is True, "s stop" in footer(screen), "r resume" in footer(screen)))

        monkeypatch.setattr(screen, "show_latest", watched)
        alive[0] = False
        await until(pilot, lambda: screen.alive is False)
        assert seen
        assert all(stop == is_alive and resume != is_alive for is_alive, stop, resume in seen)

    play(steps)


@pytest.mark.parametrize("name", actions.names(actions.OF_RUN))
def test_every_action_says_why_it_cannot_be_done(name: str) -> None:
    running = replace(made(), alive=True)
    if name in ("fix", "fresh", "more_epochs", "resume_changed"):
        with pytest.raises(InputError, match="already running"):
            require_possible(name, running)
    else:
        require_possible(name, running)


def test_a_test_cannot_be_trained_further() -> None:
    run = made()
    test = replace(run, record=replace(run.record, job="test"), state=RunState())
    for name in ("again", "fresh"):
        with pytest.raises(InputError, match="is a test"):
            require_possible(name, test)
    for name in ("more_epochs", "resume_changed", "fix"):
        with pytest.raises(InputError, match="only training can be resumed"):
            require_possible(name, test)


def test_a_run_that_was_moved_aside_is_not_resumed() -> None:
    run = made()
    aside = replace(run, output=OutputDir(Path("out/earlier/sft-small-1")))
    with pytest.raises(InputError, match="no longer in out"):
        require_possible("more_epochs", aside)
