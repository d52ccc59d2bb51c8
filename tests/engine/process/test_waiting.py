"""What the run shows while rank 0 waits for the others."""

from collections.abc import Callable

import pytest

from engine.contract import events
from engine.contract.locks import FolderLock, is_locked
from engine.contract.messages import BusyError, Message
from engine.contract.rundir import RunDir
from engine.contract.stream import EventReader
from engine.process import roll_call
from engine.process.job import StopAskedError
from engine.process.roll_call import Awaited
from engine.process.waiting import Waiting
from sft_tui import listing, runs

REFUSED = events.RunEnded("refused", 2, Message.of("meeting_incomplete", absent="1, 2", ranks=3, seconds=1800))
AWAITED = Awaited(0, 3, "ash", 29500, (1, 2), 0.0)


@pytest.fixture
def run_dir(make_run: Callable[..., RunDir], monkeypatch: pytest.MonkeyPatch) -> RunDir:
    """A run of three ranks, of which this is the first."""
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr(roll_call, "SAY_SECONDS", 0.0)
    return make_run(processes=3)


def written(run_dir: RunDir) -> list[events.Event]:
    return [record.event for record in EventReader(run_dir.events).poll()]


def test_status_says_who_is_missing(run_dir: RunDir, capfd: pytest.CaptureFixture[str]) -> None:
    waiting = Waiting(run_dir)
    waiting.report(AWAITED)
    assert "1 of 3 have come; missing ranks: 1, 2." in capfd.readouterr().err
    run = runs.read_run(run_dir)
    assert (run.alive, run.status, run.state.phase) == (True, "starting", events.Phase("meeting", 1, 3))
    assert "1 of 3 have come; missing ranks: 1, 2" in listing.status_line(run, "en")
    assert "3 个中已到 1 个" in listing.status_line(run, "zh")
    assert "missing ranks: 1, 2" in run.to_json()["waits_for"]
    assert waiting.attempt == 1
    waiting.over()


def test_a_run_whose_ranks_meet_at_once_says_nothing(
    run_dir: RunDir, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(roll_call, "SAY_SECONDS", 60.0)
    waiting = Waiting(run_dir)
    waiting.report(AWAITED)
    waiting.over()
    assert (capfd.readouterr().err, waiting.attempt, run_dir.events.exists()) == ("", 0, False)


def test_another_rank_only_prints(
    run_dir: RunDir, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its folder may not be the one that rank 0 writes to."""
    monkeypatch.setenv("RANK", "2")
    waiting = Waiting(run_dir)
    waiting.report(Awaited(2, 3, "ash", 29500, (0,), 0.0))
    assert "Waiting for rank 0 at ash:29500" in capfd.readouterr().err
    assert not waiting.ended(REFUSED)
    assert not run_dir.events.exists()


def test_a_run_that_gave_up_says_so_in_its_stream(run_dir: RunDir) -> None:
    waiting = Waiting(run_dir)
    waiting.report(AWAITED)
    assert waiting.ended(REFUSED)
    (end,) = [event for event in written(run_dir) if isinstance(event, events.RunEnded)]
    assert (end.reason, end.message.args) == ("refused", REFUSED.message.args)


@pytest.mark.parametrize("asked", ["stop", "pause"])
def test_a_run_that_waits_can_be_stopped(run_dir: RunDir, asked: str) -> None:
    waiting = Waiting(run_dir)
    waiting.report(AWAITED)
    run_dir.request_stop(asked)
    with pytest.raises(StopAskedError) as stopped:
        waiting.report(AWAITED)
    assert "waiting for the other processes" in stopped.value.message.what()
    waiting.over()


def test_a_task_of_srun_that_is_not_the_first_leaves_the_run_alone(
    run_dir: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its number is not yet under the name that torch reads."""
    monkeypatch.delenv("RANK")
    for name, value in {"SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_NTASKS": "3"}.items():
        monkeypatch.setenv(name, value)
    Waiting(run_dir).report(Awaited(1, 3, "ash", 29500, (0,), 0.0))
    assert (run_dir.events.exists(), is_locked(run_dir.path)) == (False, False)


@pytest.mark.parametrize("trains", [False, True])
def test_a_line_that_is_started_twice_is_refused(run_dir: RunDir, trains: bool) -> None:
    place = run_dir.read_record().output.path if trains else run_dir.path
    place.mkdir(exist_ok=True)
    held = FolderLock.acquire(place, "first", run_dir.path, "logs")
    waiting = Waiting(run_dir)
    with pytest.raises(BusyError):
        waiting.report(AWAITED)
    assert not waiting.ended(REFUSED)
    assert not run_dir.events.exists()
    held.release()


def test_a_folder_without_a_record_is_not_written_to(run_dir: RunDir) -> None:
    run_dir.record.unlink()
    waiting = Waiting(run_dir)
    waiting.report(AWAITED)
    assert not waiting.ended(REFUSED)
    assert (run_dir.events.exists(), is_locked(run_dir.path)) == (False, False)
