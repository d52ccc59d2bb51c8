import math
import os
import signal
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
from engine.process import job
from engine.process.attempt import execute
from engine.process.job import Job, StopAskedError, TerminatedError
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


def quiet_watch(**more: Any) -> Any:
    """A watch over other machines that finds nothing."""
    ignored = ("stop", "about", "end_soon")
    return SimpleNamespace(**{name: lambda *_, **__: None for name in ignored}, **more)


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
    watch = quiet_watch(report=left.append, certify=lambda _: certified)
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
    watch = quiet_watch(report=left.append, stopped=lambda one, _at: left.append(one))
    monkeypatch.setattr(PeerWatch, "of", lambda *_: watch)
    assert run_here(work=alone(monkeypatch, error)).code == 1
    assert [(one.reason, one.phase, "while loading" in one.why) for one in left] == [("stopped", "loading", True)]


def alone(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, *, by_file: bool = False, asked: str = "stop"
) -> Callable[[Job], Message]:
    """Work that ends with an error on one of two ranks."""

    def work(attempt: Job) -> Message:
        attempt.phase("loading")
        monkeypatch.setattr(attempt.world, "size", 2)
        if by_file:
            attempt.run_dir.request_stop(asked)
        raise error

    return work


@pytest.mark.parametrize("by_file", [True, False])
def test_a_stop_by_the_launcher_is_checked_and_a_persons_is_not(
    run_here: "Runner", monkeypatch: pytest.MonkeyPatch, by_file: bool
) -> None:
    """A launcher also signals its ranks when a machine is gone; then the loss is certified instead."""
    left: list[events.RankFailed] = []
    watch = quiet_watch(report=left.append, stopped=lambda *_: True)
    monkeypatch.setattr(PeerWatch, "of", lambda *_: watch)
    error = StopAskedError(Message.of("ended_stopped_early", phase="loading"))
    run = run_here(work=alone(monkeypatch, error, by_file=by_file))
    assert run.code == (0 if by_file else 1)  # Slurm calls a job that a person stopped completed
    assert [end.reason for end in run.all(events.RunEnded)] == (["stopped"] if by_file else [])
    assert len(left) == by_file


def test_a_run_that_a_person_pauses_outside_a_step_leaves_with_0(
    run_here: "Runner", monkeypatch: pytest.MonkeyPatch
) -> None:
    error = StopAskedError(Message.of("ended_stopped_early", phase="loading"))
    run = run_here(work=alone(monkeypatch, error, by_file=True, asked="pause"))
    assert (run.code, run.ended.reason) == (0, "paused")


def test_a_run_that_is_stopped_twice_outside_a_step_leaves_with_1(
    run_here: "Runner", monkeypatch: pytest.MonkeyPatch
) -> None:
    """It saved nothing, though a person asked."""
    run = run_here(work=alone(monkeypatch, TerminatedError(), by_file=True))
    assert (run.code, run.ended.reason) == (1, "terminated")


def test_ranks_that_wait_for_a_stopped_one_on_gpus_are_ended(
    run_here: "Runner", monkeypatch: pytest.MonkeyPatch
) -> None:
    """NCCL does not show them that the other one is gone."""

    stopped = alone(monkeypatch, StopAskedError(Message.of("ended_stopped_early", phase="loading")), by_file=True)

    def work(attempt: Job) -> Message:
        monkeypatch.setattr(attempt.world, "device", torch.device("cuda", 0))
        return stopped(attempt)

    run = run_here(work=work)
    assert (run.code, run.ended.reason) == (1, "stopped")


@pytest.mark.parametrize("certified", [True, False])
def test_an_orphan_whose_connection_broke_looks_for_a_lost_machine(
    run_here: "Runner", monkeypatch: pytest.MonkeyPatch, certified: bool
) -> None:
    asked: list[float] = []

    def certify(_failure: events.RankFailed, at: float) -> bool:
        asked.append(at)
        return certified

    watch = quiet_watch(certify=certify)
    monkeypatch.setattr(PeerWatch, "of", lambda *_: watch)
    monkeypatch.setenv(environment.SUPERVISOR, str(os.getpid()))  # which is not our parent

    def work(attempt: Job) -> Message:
        monkeypatch.setattr(attempt.world, "size", 2)
        raise RuntimeError("Connection closed by peer")

    run = run_here(work=work)
    assert [end.reason for end in run.all(events.RunEnded)] == ([] if certified else ["orphaned"])
    assert (run.code, asked) == (int(certified), [math.inf])


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


def test_an_attempt_that_began_while_ranks_were_missing_keeps_its_number(
    make_run: Callable[..., RunDir], cpu_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = make_run()
    monkeypatch.setattr(cpu_world, "attempt", 3)
    assert execute(cpu_world, run_dir, well) == 0
    assert {record.envelope.attempt for record in reported(run_dir)} == {3}


def test_a_failure_has_a_limit_if_other_machines_are_watched(
    run_here: "Runner", monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder may be on one that is gone: the traceback could not be written either."""
    limits: list[str] = []
    watch = quiet_watch(report=lambda _: None)
    watch.end_soon = limits.append
    monkeypatch.setattr(PeerWatch, "of", lambda *_: watch)
    assert run_here(work=raising(ValueError("wrong"))).code == 1
    assert limits == ["ValueError: wrong"]


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


def test_a_signal_after_the_request_to_end_now_ends_the_job(run_here: "Runner") -> None:
    def work(attempt: Job) -> Message:
        attempt.phase("training")
        attempt.run_dir.request_now()
        os.kill(os.getpid(), signal.SIGTERM)
        return well(attempt)

    run = run_here(work=work)
    assert (run.code, run.ended.reason, run.ended.message.code) == (1, "terminated", "ended_terminated")
