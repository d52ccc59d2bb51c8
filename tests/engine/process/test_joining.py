"""A rank that cannot join its run: the run's folder says why, and so does the rank."""

import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from engine.contract.events import Event, RankFailed, RunEnded
from engine.contract.launch import Launch
from engine.contract.locks import FolderLock
from engine.contract.messages import InputError
from engine.contract.rundir import RunDir
from engine.contract.stream import EventWriter
from engine.contract.texts import LANGUAGE
from engine.process import joining, roll_call
from engine.process.joining import joined
from engine.process.roll_call import Awaited
from engine.process.waiting import Waiting
from sft_tui.runs import read_run
from tests.engine.conftest import reported
from tests.engine.test_train import free_port
from tests.machines.ranks import started

PORT = InputError("meeting_port", port="29500", node="ash")
NCCL = RuntimeError("ncclInternalError: Internal check failed")


@pytest.fixture(autouse=True)
def left(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process stays."""

    def leave(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(joining, "leave", leave)
    monkeypatch.setattr(joining, "FIRST_SECONDS", 0.2)


@pytest.fixture
def run_dir(make_run: Callable[..., RunDir], tmp_path: Path) -> RunDir:
    return make_run(folder=tmp_path)


def leaves(run_dir: RunDir, patch: pytest.MonkeyPatch, error: Exception, rank: int = 0) -> tuple[int, list[Event]]:
    """How a rank that meets with an error ends, and what is then in the run's stream."""

    def world(*_about: object) -> None:
        raise error

    patch.setenv("RANK", str(rank))
    patch.setattr(joining, "World", world)
    with pytest.raises(SystemExit) as left:
        joined(run_dir)
    assert isinstance(left.value.code, int)
    return left.value.code, [record.event for record in reported(run_dir)]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_refusal_is_in_the_stream_and_on_the_terminal(
    run_dir: RunDir, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], rank: int
) -> None:
    code, (end,) = leaves(run_dir, monkeypatch, PORT, rank)
    assert isinstance(end, RunEnded)
    assert (code, end.reason, end.message.code) == (2, "refused", "meeting_port")
    assert "Port 29500 of ash" in capsys.readouterr().err


def test_an_error_is_certified_with_its_traceback(
    run_dir: RunDir, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, (end,) = leaves(run_dir, monkeypatch, NCCL)
    assert isinstance(end, RunEnded)
    assert (code, end.reason, end.message.code) == (1, "failed", "ended_failed")
    assert "ncclInternalError" in end.message.what()
    assert "RuntimeError" in end.evidence["traceback"]
    assert end.message.text() in capsys.readouterr().err


def test_one_certificate_is_enough(run_dir: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 0 writes at once, and the others only if it does not."""

    def world(*_about: object) -> None:  # of rank 1, while rank 0 meets with the same
        leaves(run_dir, monkeypatch, PORT)
        monkeypatch.setenv("RANK", "1")
        raise PORT

    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(joining, "World", world)
    with pytest.raises(SystemExit):
        joined(run_dir)
    assert [(record.envelope.src, record.envelope.attempt) for record in reported(run_dir)] == [("rank0", 1)]


@pytest.mark.parametrize("killed", [False, True])
def test_a_late_rank_belongs_to_the_attempt_that_waits_for_it(
    run_dir: RunDir, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    """If rank 0 is killed, the other rank certifies the attempt."""
    monkeypatch.setattr(roll_call, "SAY_SECONDS", 0.0)
    monkeypatch.setenv("RANK", "0")
    waiting = Waiting(run_dir)
    waiting.report(Awaited(0, 2, "ash", 29500, (1,), 0.0))

    def world(*_about: object) -> None:
        if not killed:
            waiting.ended(RunEnded("refused", 2, PORT.message))
        assert waiting._lock is not None
        waiting._lock.release()
        raise PORT

    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(joining, "World", world)
    with pytest.raises(SystemExit):
        joined(run_dir)
    found = reported(run_dir)
    assert {record.envelope.attempt for record in found} == {1}
    assert [record.envelope.src for record in found if isinstance(record.event, RunEnded)] == [f"rank{int(killed)}"]


@pytest.mark.parametrize(("rank", "trains", "code"), [(0, True, 3), (1, True, 3), (0, False, 3), (1, False, 2)])
def test_a_second_launch_leaves_the_stream_of_the_first_alone(
    run_dir: RunDir, monkeypatch: pytest.MonkeyPatch, rank: int, trains: bool, code: int
) -> None:
    """The first one trains, or waits for its ranks; the lock may then be that of this rank's own rank 0."""
    folder = run_dir.read_record().output.path if trains else run_dir.path
    held = FolderLock.acquire(folder, "first", run_dir.path, "logs")
    assert leaves(run_dir, monkeypatch, PORT, rank) == (code, [])
    assert not run_dir.events.exists()
    held.release()


def test_launches_at_one_moment_do_not_both_write(run_dir: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have met when the first takes the run's folder."""
    held: list[FolderLock] = []

    def world(*_about: object) -> Any:
        held.append(FolderLock.acquire(run_dir.path, "first", run_dir.path, "logs"))
        return SimpleNamespace(is_main=True, together=lambda work, *, chosen: chosen and work())

    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr(joining, "World", world)
    with pytest.raises(SystemExit) as left:
        joined(run_dir)
    assert (left.value.code, run_dir.events.exists()) == (3, False)
    held[0].release()


def test_the_next_attempt_has_a_certificate_of_its_own(run_dir: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    leaves(run_dir, monkeypatch, PORT)
    leaves(run_dir, monkeypatch, NCCL)
    assert [record.envelope.attempt for record in reported(run_dir)] == [1, 2]


@pytest.mark.parametrize(("error", "kinds"), [(NCCL, [RankFailed]), (PORT, [])])
def test_a_supervisor_judges_by_what_each_rank_reports(
    run_dir: RunDir, monkeypatch: pytest.MonkeyPatch, error: Exception, kinds: list[type[Event]]
) -> None:
    monkeypatch.setenv("SFT_TUI_SUPERVISOR", "1")
    monkeypatch.setenv("SFT_TUI_ATTEMPT", "3")
    EventWriter(run_dir.events, "app", 3).close()
    _, found = leaves(run_dir, monkeypatch, error, rank=1)
    assert [type(event) for event in found] == kinds
    assert isinstance(leaves(run_dir, monkeypatch, PORT, rank=0)[1][-1], RunEnded)


@pytest.mark.parametrize(
    ("lang", "said"), [("en", "prepared for 1 GPU on each machine"), ("zh", "指定每台机器用 1 个 GPU")]
)
def test_a_run_prepared_for_a_gpu_says_that_there_is_none(
    run_dir: RunDir, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], lang: str, said: str
) -> None:
    """On the terminal in its language, which may be another one than that of those who look at the run."""
    monkeypatch.setenv(LANGUAGE, lang)
    run_dir.write_record(replace(run_dir.read_record(), launch=Launch("torchrun", 1, 1)))
    monkeypatch.delenv("ACCELERATE_USE_CPU")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit) as left:
        joined(run_dir)
    (end,) = [record.event for record in reported(run_dir)]
    assert isinstance(end, RunEnded)
    assert (left.value.code, end.message.code) == (2, "gpus_promised")
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_two_ranks_without_their_gpus_end_together(make_run: Callable[..., RunDir], tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("NOT TESTED: this machine has a GPU")
    run_dir = make_run(processes=2)
    run_dir.write_record(replace(run_dir.read_record(), launch=Launch("torchrun", 2, 1)))
    cpu = {"ACCELERATE_USE_CPU": ""}  # not asked for
    with started([run_dir.path] * 2, tmp_path, "127.0.0.1", free_port(), nodes=("ash", "oak"), env=cpu) as ranks:
        assert ranks.codes() == [2, 2], (ranks.said(0), ranks.said(1))
    (end,) = [record.event for record in reported(run_dir)]
    assert isinstance(end, RunEnded)
    assert (end.reason, end.message.args["numbers"], end.message.args["nodes"]) == ("refused", "0, 1", "ash, oak")
    assert all("these ranks find none: 0, 1 (on ash, oak)" in ranks.said(rank) for rank in (0, 1))
    assert read_run(run_dir).status == "refused"


@pytest.mark.slow
def test_a_port_in_use_ends_rank_0_with_a_certificate(make_run: Callable[..., RunDir], tmp_path: Path) -> None:
    run_dir = make_run(processes=2)
    with socket.create_server(("", 0)) as taken:
        port = int(taken.getsockname()[1])
        with started([run_dir.path] * 2, tmp_path, "127.0.0.1", port, nodes=("ash", "oak")) as ranks:
            assert ranks.processes[0].wait(120) == 2, ranks.said(0)
            said = read_run(run_dir)  # the launcher now ends the other
    assert said.status == "refused"
    assert said.state.ended is not None
    assert f"Port {port} of ash" in said.state.ended.message.what()


def test_a_run_without_a_record_is_left_to_the_job(tmp_path: Path) -> None:
    assert joined(RunDir(tmp_path)).size == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("asked", "reason"), [("stop", "stopped"), ("pause", "paused")])
def test_a_run_that_is_stopped_while_it_waits_ends_as_asked(
    run_dir: RunDir, monkeypatch: pytest.MonkeyPatch, asked: str, reason: str
) -> None:
    def world(_launch: Launch, _run: str, _folder: str, report: Callable[[Awaited], None]) -> None:
        for _ in range(2):
            report(Awaited(0, 2, "ash", 29500, (1,), 0.0))
            run_dir.request_stop(asked)

    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr(roll_call, "SAY_SECONDS", 0.0)
    monkeypatch.setattr(joining, "World", world)
    with pytest.raises(SystemExit) as left:
        joined(run_dir)
    end = reported(run_dir)[-1].event
    assert isinstance(end, RunEnded)
    assert (left.value.code, end.reason, end.exit_code) == (0, reason, 0)
    assert {record.envelope.attempt for record in reported(run_dir)} == {1}


@pytest.mark.parametrize("rank", [0, 1])
def test_a_run_that_is_stopped_before_it_said_anything_ends_too(
    run_dir: RunDir, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], rank: int
) -> None:
    def world(_launch: Launch, _run: str, _folder: str, report: Callable[[Awaited], None]) -> None:
        run_dir.request_stop("stop")
        report(Awaited(rank, 2, "ash", 29500, (1,), 0.0))

    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setattr(joining, "World", world)
    with pytest.raises(SystemExit) as left:
        joined(run_dir)
    assert (left.value.code, "waiting for the other processes" in capsys.readouterr().err) == (0, True)
    assert [getattr(record.event, "reason", "") for record in reported(run_dir)] == ["stopped"] * (rank == 0)


def test_missing_ranks_end_the_attempt_that_waited_for_them(run_dir: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    def world(_launch: Launch, _run: str, _folder: str, report: Callable[[Awaited], None]) -> None:
        report(Awaited(0, 2, "ash", 29500, (1,), 0.0))
        raise InputError("meeting_incomplete", absent="1", ranks=2, seconds=1800)

    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr(roll_call, "SAY_SECONDS", 0.0)
    monkeypatch.setattr(joining, "World", world)
    with pytest.raises(SystemExit) as left:
        joined(run_dir)
    kinds = [record.event.kind for record in reported(run_dir)]
    assert (left.value.code, kinds) == (2, ["phase", "notice", "run_ended"])
    assert {record.envelope.attempt for record in reported(run_dir)} == {1}
