"""A rank gives signs of status that tell where it stands, notices that its parent is dead, and shows its stacks."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.contract import environment
from engine.contract.events import Heartbeat
from engine.contract.processes import ProcessId
from engine.contract.stream import EventReader, EventWriter
from engine.process import heartbeat
from engine.process.heartbeat import (
    HeartbeatThread,
    RankStatus,
    attempt_from_environment,
    parent_to_watch,
    supervised,
    supervisor_died,
)
from tests.processes import until

LIMIT = 60.0  # seconds for processes that only wait for each other


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beats that come as soon as they can."""
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.0)
    monkeypatch.setattr(heartbeat, "WATCH_SECONDS", 0.01)


@pytest.fixture
def beating(tmp_path: Path) -> Iterator[Callable[..., Callable[[], list[Heartbeat]]]]:
    """Starts a pulse; gives what it has written so far."""
    begun: list[tuple[HeartbeatThread, EventWriter]] = []

    def start(status: RankStatus, parent: int | None = None) -> Callable[[], list[Heartbeat]]:
        log = EventWriter(tmp_path / "events.jsonl", "rank0", 1)
        one = HeartbeatThread(status, log, parent)
        begun.append((one, log))
        one.start()
        return lambda: [
            r.event for r in EventReader(tmp_path / "events.jsonl").poll() if isinstance(r.event, Heartbeat)
        ]

    yield start
    for one, log in begun:
        one.stop()
        log.close()


def test_a_heartbeat_has_phase_progress_and_waiting(
    beating: Callable[..., Callable[[], list[Heartbeat]]],
) -> None:
    status = RankStatus()
    beats = beating(status)
    until(lambda: Heartbeat("starting", 0, False, os.getpid()) in beats(), LIMIT)

    status.phase = "training"
    status.mark()
    until(lambda: Heartbeat("training", 1, False, os.getpid()) in beats(), LIMIT)

    with status.waiting_for_others():
        until(lambda: Heartbeat("training", 1, True, os.getpid()) in beats(), LIMIT)
    until(lambda: beats()[-1] == Heartbeat("training", 2, False, os.getpid()), LIMIT)


def test_a_stuck_rank_beats_without_progress(
    beating: Callable[..., Callable[[], list[Heartbeat]]],
) -> None:
    beats = beating(RankStatus())
    until(lambda: len(beats()) > 5, LIMIT)
    assert {beat.progress for beat in beats()} == {0}


def test_failing_while_waiting_for_others_is_remembered() -> None:
    status = RankStatus()
    with status.waiting_for_others():
        assert status.waiting
    assert (status.waiting, status.gave_up_waiting, status.progress) == (False, False, 1)

    with pytest.raises(RuntimeError), status.waiting_for_others():
        raise RuntimeError("connection closed by peer")
    assert (status.waiting, status.gave_up_waiting) == (False, True)


def test_work_of_ones_own_within_a_wait_counts_as_work() -> None:
    status = RankStatus()
    with status.waiting_for_others():
        with status.working():
            assert not status.waiting
        assert (status.waiting, status.progress) == (True, 1)
    assert not status.waiting


def test_no_heartbeat_follows_after_it_was_stopped(tmp_path: Path) -> None:
    log = EventWriter(tmp_path / "events.jsonl", "rank0", 1)
    one = HeartbeatThread(RankStatus(), log, None)
    one.start()
    one.stop()
    before = (tmp_path / "events.jsonl").read_bytes()
    log.close()
    assert (tmp_path / "events.jsonl").read_bytes() == before


# --- whose child it is


def test_a_rank_with_a_living_parent_is_no_orphan(beating: Callable[..., Callable[[], list[Heartbeat]]]) -> None:
    status = RankStatus()
    beats = beating(status, os.getppid())
    until(lambda: len(beats()) > 5, LIMIT)
    assert not status.orphaned


def test_a_rank_whose_parent_has_died_is_an_orphan(beating: Callable[..., Callable[[], list[Heartbeat]]]) -> None:
    status = RankStatus()
    beating(status, os.getpid())  # which is not our parent
    until(lambda: status.orphaned, LIMIT)


@pytest.mark.parametrize(
    ("env", "watched", "is_supervised"),
    [({environment.SUPERVISOR: "77"}, 77, True), ({"WORLD_SIZE": "2"}, "parent", False), ({}, None, False)],
    ids=["a supervisor's", "a launcher's", "nobody's"],
)
def test_a_rank_watches_the_process_that_started_it(
    env: dict[str, str], watched: Any, is_supervised: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (environment.SUPERVISOR, "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert parent_to_watch() == (os.getppid() if watched == "parent" else watched)
    assert supervised() == is_supervised
    assert supervisor_died() == is_supervised  # 77 is not our parent


def test_a_living_supervisor_has_not_died(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(environment.SUPERVISOR, str(os.getppid()))
    assert supervised()
    assert not supervisor_died()


def test_the_attempt_number_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(environment.ATTEMPT, raising=False)
    assert attempt_from_environment() == 0
    monkeypatch.setenv(environment.ATTEMPT, "3")
    assert attempt_from_environment() == 3


STUCK = """
import os, sys, time
from pathlib import Path
from engine.process import heartbeat
from engine.contract.stream import EventWriter
from engine.process.heartbeat import RankStatus, HeartbeatThread
heartbeat.WATCH_SECONDS, heartbeat.ORPHAN_SECONDS = 0.01, 0.2
if os.fork():
    os._exit(0)
status = RankStatus()
status.phase = sys.argv[2]
HeartbeatThread(status, EventWriter(Path(sys.argv[1]), "rank0", 1), -1).start()
time.sleep(1000)
"""


@pytest.mark.parametrize(("phase", "leaves"), [("training", True), ("saving", False)])
def test_a_stuck_orphan_frees_its_folder_unless_it_saves(phase: str, leaves: bool, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    subprocess.run([sys.executable, "-c", STUCK, str(path), phase], check=True, timeout=LIMIT)
    until(lambda: bool(EventReader(path).poll()), LIMIT)
    first = EventReader(path).poll()[0].event
    assert isinstance(first, Heartbeat)
    one = ProcessId.of(first.pid)
    try:
        if leaves:
            until(lambda: one is None or not one.alive(), LIMIT)
        else:
            until(lambda: len(EventReader(path).poll()) > 1, LIMIT)  # two seconds later, ten times its patience
            assert one is not None
            assert one.alive()
    finally:
        if one is not None and one.alive():
            os.kill(one.pid, signal.SIGKILL)


# --- stacks

STANDING = """
import ctypes, os, sys
from pathlib import Path
from engine.process.heartbeat import write_stacks_on_request
write_stacks_on_request(Path(sys.argv[1]))
def where_it_stands():
    print("ready", flush=True)
    while True:  # a signal cuts it short
        ctypes.PyDLL(None).sleep(1000)  # holds the interpreter's lock: no Python code of this process runs any more
where_it_stands()
"""


def test_a_rank_stuck_in_a_call_shows_its_stacks(tmp_path: Path) -> None:
    path = tmp_path / "stacks"
    process = subprocess.Popen([sys.executable, "-c", STANDING, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"

        def shown() -> bool:
            process.send_signal(signal.SIGUSR1)  # again, for the first may come before it stands there
            return "in where_it_stands" in path.read_text()

        until(shown, LIMIT)
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()


def test_a_rank_that_cannot_write_stacks_still_trains() -> None:
    program = (
        "from pathlib import Path\n"
        "from engine.process.heartbeat import write_stacks_on_request as w\n"
        "w(Path('/dev/null/stacks'))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=LIMIT)
