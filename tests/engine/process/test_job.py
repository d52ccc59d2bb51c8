import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from engine.contract import environment, events
from engine.contract.messages import InputError, Message
from engine.contract.rundir import RunDir
from engine.contract.stream import EventReader
from engine.data.fingerprints import file_sha256
from engine.process import job
from engine.process.heartbeat import RankStatus
from engine.process.job import Job, StopAskedError, StopFlag, TerminatedError, execute
from engine.process.peers import PeerWatch
from engine.process.world import World
from tests.engine.conftest import reported
from tests.processes import until

if TYPE_CHECKING:
    from tests.engine.conftest import Runner


def well(_: Job) -> Message:
    """Work that succeeds at once."""
    return Message("model_new", {"seed": 1})


def raising(error: Exception) -> Callable[[Job], Message]:
    def work(_: Job) -> Message:
        raise error

    return work


def test_a_job_that_succeeds_is_finished(run_here: "Runner") -> None:
    run = run_here(work=well)
    assert (run.code, run.ended.reason, run.ended.exit_code) == (0, "finished", 0)
    assert run.ended.message.code == "model_new"
    assert int(run.ended.evidence["peak_memory_rank0"]) > 10_000_000


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (InputError("preset_unknown", name="x", known="y"), 2, "refused"),
        (job.StopAskedError(Message("model_new", {"seed": 1})), 0, "stopped"),
        (job.DivergedError(Message("model_new", {"seed": 1}), {}, {}), 1, "diverged"),
        (ValueError("wrong"), 1, "failed"),
        (MemoryError(), 1, "out_of_memory"),
    ],
)
def test_every_end_is_one_event(run_here: "Runner", error: Exception, code: int, reason: str) -> None:
    run = run_here(work=raising(error))
    assert (run.code, run.ended.exit_code, run.ended.reason) == (code, code, reason)
    assert len(run.all(events.RunEnded)) == 1


def test_a_failure_names_the_error_where_it_happened(run_here: "Runner") -> None:
    run = run_here(work=raising(ValueError("wrong\nvery")))
    assert "ValueError: wrong very" in run.ended.message.what()
    assert "in work" in run.ended.evidence["traceback"]


def test_a_failure_is_printed_without_escapes(run_here: "Runner", capfd: pytest.CaptureFixture[str]) -> None:
    """Errors repeat names of tensors and texts of rows."""
    run_here(work=raising(ValueError("no tensor \x1b]0;pwn\x07\x9b31m")))
    err = capfd.readouterr().err
    assert "Traceback" in err
    assert "no tensor ␛]0;pwn␇<U+009B>31m" in err
    assert not set(err) & set("\x1b\x07\x9b")


def test_a_divergence_keeps_its_evidence_and_proposes_settings(run_here: "Runner") -> None:
    error = job.DivergedError(Message("head_frozen"), {"rows_rank0": "4, 9"}, {"learn_rate": 5e-4})
    end = run_here(work=raising(error)).ended
    assert (end.evidence, end.apply) == ({"rows_rank0": "4, 9"}, {"learn_rate": 5e-4})


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you …")])
def test_out_of_memory_proposes_the_setting_that_fixes_it(run_here: "Runner", error: Exception) -> None:
    end = run_here(work=raising(error), micro_batch_tokens=128).ended
    assert (end.reason, end.apply) == ("out_of_memory", {"micro_batch_tokens": 64})
    assert "64 tokens" in end.message.fix()
    assert "--resume --apply-fix" in end.message.fix()


def test_out_of_memory_at_the_smallest_budget_proposes_nothing(
    run_here: "Runner",
) -> None:
    end = run_here(work=raising(MemoryError()), micro_batch_tokens=40).ended
    assert (end.reason, end.apply) == ("out_of_memory", {})
    assert "--apply-fix" not in end.message.fix()
    assert "--max_seq_len" in end.message.fix()


FULL = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 11.76 GiB of which 1.25 GiB is free."
)


def test_a_full_gpu_is_named_with_what_was_asked_and_what_was_free(run_here: "Runner") -> None:
    end = run_here(work=raising(torch.OutOfMemoryError(FULL)), micro_batch_tokens=128).ended
    assert (end.reason, end.exit_code, end.apply) == ("out_of_gpu_memory", 1, {"micro_batch_tokens": 64})
    assert "Rank 0 ran out of the memory of GPU 0" in end.message.what()
    assert "2.15 GB more was needed, and 1.34 GB of its 12.63 GB were free" in end.message.what()
    assert "还需要 2.15 GB" in end.message.what("zh")
    assert "64 tokens" in end.message.fix()
    assert "--resume --apply-fix" in end.message.fix()


def test_a_full_gpu_with_the_smallest_budget_proposes_other_ways(run_here: "Runner") -> None:
    end = run_here(work=raising(RuntimeError("CUDA error: out of memory")), micro_batch_tokens=40).ended
    assert (end.reason, end.apply) == ("out_of_gpu_memory", {})
    assert "CUDA error: out of memory" in end.message.what()
    assert "--lora_rank" in end.message.fix()


def test_a_gpu_that_fails_is_named_with_what_to_do(run_here: "Runner") -> None:
    end = run_here(work=raising(torch.AcceleratorError("CUDA error: unspecified launch failure"))).ended
    assert (end.reason, end.apply) == ("gpu_failed", {})
    assert "GPU 0 failed while starting" in end.message.what()
    assert "dmesg" in end.message.fix()


def test_a_rank_without_supervisor_reports_error_and_end(run_here: "Runner") -> None:
    run = run_here(work=raising(ValueError("wrong")))
    (failure,) = run.all(events.RankFailed)
    assert (failure.reason, failure.phase, failure.why, failure.waiting) == (
        "failed",
        "starting",
        "ValueError: wrong",
        False,
    )
    assert failure.traceback == run.ended.evidence["traceback"]


def test_a_rank_with_supervisor_reports_only_its_error(run_here: "Runner", monkeypatch: pytest.MonkeyPatch) -> None:
    """Which sees all ranks, and so which of them was the first."""
    monkeypatch.setenv(environment.SUPERVISOR, str(os.getppid()))
    run = run_here(work=raising(ValueError("wrong")))
    assert run.code == 1
    assert [failure.why for failure in run.all(events.RankFailed)] == ["ValueError: wrong"]
    assert run.all(events.RunEnded) == []


def test_an_error_while_waiting_for_others_is_marked_so(run_here: "Runner") -> None:
    def work(attempt: Job) -> Message:
        attempt.step = 7
        attempt.phase("training")
        with attempt.rank_status.waiting_for_others():
            raise RuntimeError("connection closed by peer")

    (failure,) = run_here(work=work).all(events.RankFailed)
    assert (failure.waiting, failure.phase, failure.step) == (True, "training", 7)


def test_a_connection_that_breaks_amid_a_computation_is_no_own_failure(run_here: "Runner") -> None:
    """The layers of a divided model are put together wherever they compute."""
    error = RuntimeError("[…/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:27044.")
    (failure,) = run_here(work=raising(error)).all(events.RankFailed)
    assert failure.waiting


@pytest.mark.parametrize("certified", [True, False])
def test_a_broken_connection_without_a_cause_is_left_to_the_others(
    run_here: "Runner", monkeypatch: pytest.MonkeyPatch, certified: bool
) -> None:
    """They would take the silence of the rank that gave up for the loss of its machine."""
    left: list[events.RankFailed] = []
    watch = SimpleNamespace(report=left.append, certify=lambda _: certified, stop=lambda **_: None)
    monkeypatch.setattr(PeerWatch, "of", lambda *_: watch)
    error = RuntimeError("[…/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:27044.")
    run = run_here(work=raising(error))
    assert (run.code, len(left), len(run.all(events.RunEnded))) == ((1, 0, 0) if certified else (1, 1, 1))


@pytest.mark.parametrize(
    "error", [StopAskedError(Message.of("ended_stopped_early", phase="loading")), TerminatedError()]
)
def test_a_rank_that_is_stopped_alone_tells_the_other_machines(
    run_here: "Runner", monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """They would take its silence for the loss of its machine."""
    left: list[events.RankFailed] = []
    watch = SimpleNamespace(report=left.append, stop=lambda **_: None)
    monkeypatch.setattr(PeerWatch, "of", lambda *_: watch)

    def work(attempt: Job) -> Message:
        attempt.phase("loading")
        monkeypatch.setattr(attempt.world, "size", 2)
        raise error

    assert run_here(work=work).code == 1
    assert [(one.phase, "while loading" in one.why) for one in left] == [("loading", True)]


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"run": "x", "config": {"epochs": 0}}'])
def test_an_unreadable_record_is_refused(cpu_world: World, tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    assert execute(cpu_world, RunDir(tmp_path), well) == 2
    (record,) = reported(RunDir(tmp_path))
    assert isinstance(record.event, events.RunEnded)
    assert (record.event.reason, record.event.message.code) == ("refused", "run_record_bad")


def test_a_setting_out_of_range_is_refused(make_run: Callable[..., RunDir], cpu_world: World) -> None:
    run_dir = make_run()
    run_dir.record.write_text(run_dir.record.read_text().replace('"epochs": 2', '"epochs": 0'))
    assert execute(cpu_world, run_dir, well) == 2
    (record,) = reported(run_dir)
    assert isinstance(record.event, events.RunEnded)
    assert record.event.message.code == "setting_range"


def test_attempts_are_counted(run_here: "Runner", tmp_path: Path) -> None:
    for _ in range(3):
        run = run_here(folder=tmp_path, work=well)
    assert [record.envelope.attempt for record in reported(run.run_dir)] == [1, 2, 3]


def test_the_attempt_number_is_the_supervisors(
    run_here: "Runner", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All ranks get the same answer, even if another rank has written by then."""
    run_here(folder=tmp_path, work=well)
    monkeypatch.setenv(environment.ATTEMPT, "7")
    run = run_here(folder=tmp_path, work=well)
    assert [record.envelope.attempt for record in reported(run.run_dir)] == [1, 7]
    assert {record.envelope.attempt for record in EventReader(run.run_dir.events).poll()} == {1, 7}  # heartbeats too


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


@pytest.mark.parametrize(
    ("phase", "stops"), [("loading", True), ("generating", True), ("training", False), ("saving", False)]
)
def test_a_stop_before_training_ends_at_once(run_here: "Runner", tmp_path: Path, phase: str, stops: bool) -> None:
    """A step is finished first, and then saved."""

    def work(attempt: Job) -> Message:
        attempt.run_dir.request_stop()
        attempt.phase(phase)
        return well(attempt)

    run = run_here(folder=tmp_path, work=work)
    assert run.code == 0
    assert run.ended.reason == ("stopped" if stops else "finished")


def test_a_pause_ends_as_paused(run_here: "Runner", tmp_path: Path) -> None:
    def work(attempt: Job) -> Message:
        attempt.run_dir.request_stop("pause")
        attempt.phase("loading")
        return well(attempt)

    run = run_here(folder=tmp_path, work=work)
    assert (run.code, run.ended.reason) == (0, "paused")


def test_a_rank_whose_supervisor_died_stops_as_an_orphan(run_here: "Runner", monkeypatch: pytest.MonkeyPatch) -> None:
    def work(attempt: Job) -> Message:
        until(lambda: attempt.stop_asked())
        attempt.phase("loading")
        return well(attempt)

    monkeypatch.setenv(environment.SUPERVISOR, str(os.getpid()))  # which is not our parent
    run = run_here(work=work)
    assert (run.code, run.ended.reason) == (0, "orphaned")
    assert "was killed" in run.ended.message.what()


def test_a_rank_whose_others_stopped_first_names_what_is_saved(
    run_here: "Runner", monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """During an evaluation each rank stops by itself, and the others lose the connection to it."""

    def work(attempt: Job) -> Message:
        attempt.phase("generating")
        attempt.step = 7
        attempt.output.checkpoint(7).mkdir(parents=True)
        attempt.run_dir.request_stop()
        monkeypatch.setattr(attempt.world, "size", 2)
        raise RuntimeError("Connection closed by peer")

    run = run_here(folder=tmp_path, work=work)
    assert (run.code, run.ended.reason, run.ended.message.args["step"]) == (0, "stopped", 7)


@pytest.fixture
def status() -> RankStatus:
    return RankStatus()


@pytest.fixture
def stop_flag(tmp_path: Path, status: RankStatus) -> Any:
    """A flag whose signal handlers are gone afterwards."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield StopFlag(RunDir(tmp_path), status)
    for number, handler in handlers.items():
        signal.signal(number, handler)


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
    now = time.monotonic()
    os.kill(os.getpid(), signal.SIGTERM)
    monkeypatch.setattr(time, "monotonic", lambda: now + seconds)
    status.progress += progress
    with pytest.raises(TerminatedError) if ends else contextlib.nullcontext():
        os.kill(os.getpid(), signal.SIGTERM)
    assert stop_flag()


def test_a_signal_after_the_request_to_end_now_ends_the_job(run_here: "Runner") -> None:
    def work(attempt: Job) -> Message:
        attempt.phase("training")
        attempt.run_dir.request_now()
        os.kill(os.getpid(), signal.SIGTERM)
        return well(attempt)

    run = run_here(work=work)
    assert (run.code, run.ended.reason, run.ended.message.code) == (1, "terminated", "ended_terminated")


def test_a_signal_after_the_stop_file_is_the_same_request(stop_flag: StopFlag, tmp_path: Path) -> None:
    """A shutdown signals the supervisor, which writes that file, and the ranks at once."""
    RunDir(tmp_path).request_stop()
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop_flag()


def test_the_peak_of_memory_is_that_of_this_process() -> None:
    assert 10 << 20 < job.peak_memory() < 1 << 40
