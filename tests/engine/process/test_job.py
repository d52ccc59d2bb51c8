import contextlib
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from engine.contract import events
from engine.contract.messages import Message
from engine.contract.rundir import RunDir
from engine.data.fingerprints import file_sha256
from engine.process import job
from engine.process.heartbeat import RankStatus
from engine.process.job import Job, StopFlag, TerminatedError

if TYPE_CHECKING:
    from tests.engine.conftest import Runner


def well(_: Job) -> Message:
    """Work that succeeds at once."""
    return Message("model_new", {"seed": 1})


def test_another_source_has_another_digest(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "a.py").write_text("1")
    (tmp_path / "inner" / "b.py").write_text("2")
    found = [job.source_digest(tmp_path), job.source_digest(tmp_path)]
    (tmp_path / "notes.txt").write_text("no source")
    found.append(job.source_digest(tmp_path))
    assert len(set(found)) == 1
    (tmp_path / "inner" / "b.py").write_text("3")
    found.append(job.source_digest(tmp_path))
    (tmp_path / "inner" / "b.py").rename(tmp_path / "inner" / "c.py")
    found.append(job.source_digest(tmp_path))
    (tmp_path / "inner" / "d.c").write_text("4")
    found.append(job.source_digest(tmp_path))
    (tmp_path / "e.h").write_text("5")  # what code in C is made of, too
    found.append(job.source_digest(tmp_path))
    (tmp_path / "e.h").write_text("6")
    found.append(job.source_digest(tmp_path))
    assert len(set(found)) == 6


def test_an_attempt_reports_its_settings_and_versions(run_here: "Runner", tiny_settings: dict[str, Any]) -> None:
    def work(attempt: Job) -> Message:
        attempt.started([attempt.source("train_file", "pairs")])
        return well(attempt)

    (started,) = run_here(work=work, epochs=7).all(events.RunStarted)
    assert (started.job, started.preset, started.world_size, started.device) == ("train", "sft-small", 1, "cpu")
    assert started.config["epochs"] == 7
    assert started.overrides["epochs"] == [3, 7]
    assert set(job.VERSIONS_OF) < started.versions.keys()
    assert started.data == {"train_file": file_sha256(Path(tiny_settings["train_file"]))}
    assert started.memory_available > 0
    assert started.disk_available > 0


def phases(run_here: "Runner", reported: list[tuple[str, int, int]], pace: float = 999.0) -> list[tuple[str, int, int]]:
    """Which of the phases that work tells of are written."""

    def work(attempt: Job) -> Message:
        for name, done, total in reported:
            attempt.phase(name, done, total)
        return well(attempt)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "PHASE_PACE", pace)
        return [(event.name, event.done, event.total) for event in run_here(work=work).all(events.Phase)]


def test_a_phase_is_reported_at_begin_end_and_in_between(run_here: "Runner") -> None:
    reported = [("evaluating", done, 9) for done in range(10)] + [("training", 0, 3)]
    assert phases(run_here, reported) == [("evaluating", 0, 9), ("evaluating", 9, 9), ("training", 0, 3)]
    assert phases(run_here, reported, pace=0.0) == reported


@pytest.fixture
def status() -> RankStatus:
    return RankStatus()


@pytest.fixture
def stop_flag(tmp_path: Path, status: RankStatus) -> Any:
    return StopFlag(RunDir(tmp_path), status)


def test_no_stop_is_requested_by_default(stop_flag: StopFlag) -> None:
    assert not stop_flag()


def test_the_stop_file_requests_a_stop(stop_flag: StopFlag, tmp_path: Path) -> None:
    RunDir(tmp_path).request_stop()
    assert stop_flag()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_requests_a_stop(stop_flag: StopFlag, number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
    assert stop_flag()


@pytest.mark.parametrize(("seconds", "progress", "ends"), [(0.1, 5, False), (4.0, 0, False), (4.0, 5, True)])
def test_a_second_signal_ends_the_job_unless_it_is_an_echo_of_the_first(
    monkeypatch: pytest.MonkeyPatch, status: RankStatus, stop_flag: StopFlag, seconds: float, progress: int, ends: bool
) -> None:
    """A terminal's Ctrl-C comes twice under a launcher, and is handled late where a long product is being computed."""
    clock = [time.monotonic()]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    os.kill(os.getpid(), signal.SIGTERM)
    clock[0] += seconds
    status.progress += progress
    with pytest.raises(TerminatedError) if ends else contextlib.nullcontext():
        os.kill(os.getpid(), signal.SIGTERM)
    assert stop_flag()


def test_a_signal_after_the_stop_file_is_the_same_request(stop_flag: StopFlag, tmp_path: Path) -> None:
    """A shutdown signals the supervisor, which writes that file, and the ranks at once."""
    RunDir(tmp_path).request_stop()
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop_flag()


def test_the_peak_of_memory_is_that_of_this_process() -> None:
    assert 10 << 20 < job.peak_memory() < 1 << 40
