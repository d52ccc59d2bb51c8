"""A supervisor in this process over one attempt of a run, with programs made for the tests in place of its ranks."""

import errno
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.contract import environment, events, stop_signals
from engine.contract.config import to_json
from engine.contract.events import Event
from engine.contract.locks import FolderLock, is_locked
from engine.contract.machine import gpus
from engine.contract.machine.host import Readings
from engine.contract.messages import InputError, Message
from engine.contract.presets import preset
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir, create_run_dir
from engine.contract.stream import EventReader, EventWriter
from engine.contract.texts import Phrase
from sft_tui import runs
from sft_tui.supervise import ranks, supervisor
from tests.sft_tui.conftest import PLAN, STARTED, step
from tests.sft_tui.supervise.test_ranks import subreaper

Supervised = Callable[..., int]
__all__ = ["subreaper"]  # a fixture

RANK = """
import os, signal, sys, time
from pathlib import Path
from engine.contract import events
from engine.contract.messages import Message
from engine.contract.rundir import RunDir
from engine.contract.stream import EventWriter

run_dir, rank = RunDir(Path(sys.argv[1])), int(os.environ.get("RANK", "0"))
log = EventWriter(run_dir.events, f"rank{rank}", int(os.environ["SFT_TUI_ATTEMPT"]))

def end(reason, code):
    known = {"steps_total": 9, "loss": "1.2", "path": "out", "resume_option": "go on"}
    log.write(events.RunEnded(reason, code, Message("ended_finished_unpublished", known)))
    sys.exit(code)

def wait(condition):
    while not condition():
        time.sleep(0.01)
"""


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    """The folder of a run, without a record."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setitem(ranks.MODULES, "train", "stand_in")
    monkeypatch.setattr(gpus, "command", lambda *_options: ["true"])
    monkeypatch.setattr(supervisor, "TICK_SECONDS", 0.02)
    return create_run_dir(tmp_path / "logs", "sft-small")


@pytest.fixture
def supervise(run_dir: RunDir, tmp_path: Path, subreaper: None) -> Supervised:  # noqa: ARG001
    """Supervises ranks that run a program, to their end; returns the exit code."""

    def run(program: str, processes: int = 1, **config: Any) -> int:
        (tmp_path / "stand_in.py").write_text(RANK + program)
        values = {**to_json(preset("sft-small").config), "output_dir": str(tmp_path / "out"), **config}
        run_dir.write_record(RunRecord("sft-small-1", "sft-small", "train", values, processes=processes))
        return supervisor.main(run_dir.path)

    return run


def written(run_dir: RunDir, kind: type[Event]) -> list[tuple[str, Any]]:
    """The events of a kind in the stream of a run, each with who wrote it."""
    found = EventReader(run_dir.events).poll()
    return [(record.envelope.src, record.event) for record in found if isinstance(record.event, kind)]


def the_end(run_dir: RunDir) -> tuple[str, events.RunEnded]:
    """The only end of a run, and who wrote it."""
    (found,) = written(run_dir, events.RunEnded)
    return found


def test_an_end_that_a_rank_reported_is_not_reported_again(supervise: Supervised, run_dir: RunDir) -> None:
    assert supervise("end('finished', 0)") == 0
    source, end = the_end(run_dir)
    assert (source, end.reason) == ("rank0", "finished")
    assert "Finished: 9 steps" in run_dir.plain_log.read_text()
    assert runs.read_run(run_dir).status == "finished"


def test_ranks_that_end_without_a_word_get_a_certificate(supervise: Supervised, run_dir: RunDir) -> None:
    assert supervise("print('no space for my heap', flush=True); sys.exit(3)") == 1
    source, end = the_end(run_dir)
    assert (source, end.reason) == ("supervisor", "failed")
    assert "Rank 0" in end.message.what()
    assert end.message.what() in run_dir.plain_log.read_text()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_asks_the_ranks_to_stop(supervise: Supervised, run_dir: RunDir, name: str) -> None:
    assert supervise(f"os.kill(os.getppid(), signal.{name}); wait(run_dir.stop_requested); end('stopped', 0)") == 0
    assert the_end(run_dir)[1].reason == "stopped"
    assert not run_dir.now_request.exists()


def test_a_stop_before_the_ranks_begin_counts_on_a_full_disk(
    supervise: Supervised, run_dir: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    class StoppedMeanwhile(Readings):
        def __init__(self, *given: Any) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            super().__init__(*given)

    def full(_run_dir: RunDir) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(RunDir, "request_stop", full)
    monkeypatch.setattr(supervisor, "Readings", StoppedMeanwhile)
    assert supervise("time.sleep(60)") == 0
    assert the_end(run_dir)[1].reason == "stopped"


def test_a_second_signal_ends_ranks_that_do_not_stop(
    supervise: Supervised, run_dir: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stop_signals, "SECOND_REQUEST_AFTER", 0.0)
    monkeypatch.setattr(supervisor, "NOW_SECONDS", 0.1)
    stubborn = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.kill(os.getppid(), signal.SIGINT)
wait(run_dir.stop_requested)
os.kill(os.getppid(), signal.SIGINT)
time.sleep(600)
"""
    assert supervise(stubborn) == 1
    assert the_end(run_dir)[1].reason == "terminated"


def test_a_lost_terminal_changes_nothing(supervise: Supervised, run_dir: RunDir) -> None:
    assert supervise("os.kill(os.getppid(), signal.SIGHUP); end('finished', 0)") == 0
    assert not run_dir.stop_requested()


def test_ranks_that_outlive_another_are_ended(
    supervise: Supervised, run_dir: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "GRACE_SECONDS", 0.1)
    assert supervise("rank or sys.exit(7)\ntime.sleep(600)", processes=2) == 1
    end = the_end(run_dir)[1]
    assert (end.reason, "Rank 0 " in end.message.what()) == ("failed", True)


def test_a_rank_that_makes_no_progress_is_ended_with_its_stack(
    supervise: Supervised, run_dir: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "STACKS_SECONDS", 60.0)
    stuck = """
from engine.process.heartbeat import write_stacks_on_request
write_stacks_on_request(run_dir.stacks(rank))
def wait_for_the_shelf():
    log.write(events.Heartbeat("training", 1))
    time.sleep(600)
wait_for_the_shelf()
"""
    assert supervise(stuck, hang_seconds=0.2) == 1
    end = the_end(run_dir)[1]
    assert end.reason == "hung"
    assert "wait_for_the_shelf" in end.evidence["stacks_rank0"]


def test_ranks_that_cannot_be_started_are_reported(
    supervise: Supervised, run_dir: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_how: Any, **_more: Any) -> Any:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(subprocess, "Popen", refuse)
    assert supervise("") == 1
    assert "Cannot allocate memory" in the_end(run_dir)[1].message.what()


def test_a_plain_log_that_cannot_be_written_is_a_warning(supervise: Supervised, run_dir: RunDir) -> None:
    run_dir.plain_log.mkdir()
    assert supervise("end('finished', 0)") == 0
    codes = [event.message.code for _, event in written(run_dir, events.Warning)]
    assert "plain_log_unwritable" in codes


@pytest.fixture
def locks(run_dir: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FolderLock]:
    """The locks that the starting process passes on; this one is of the output folder."""
    mine = FolderLock.acquire(run_dir.path, "sft-small-1", run_dir.path, "logs")
    output = FolderLock.acquire(tmp_path / "out", "sft-small-1", run_dir.path)
    for name, value in (
        (environment.RUN_LOCK_FD, mine.fd),
        (environment.LOCK_FD, output.fd),
        (environment.LOCK_MADE, output.made),
    ):
        monkeypatch.setenv(name, str(value))
    yield output
    mine.release()


def test_ranks_share_only_the_lock_that_they_need(supervise: Supervised, run_dir: RunDir, locks: FolderLock) -> None:
    look = """
shared = sorted(name for name in os.environ if "LOCK" in name)
from engine.contract.locks import FolderLock
lock = FolderLock.inherited(Path(sys.argv[1]).parents[1] / "out", int(os.environ["SFT_TUI_LOCK_FD"]), "", run_dir.path)
print(shared, lock.hold(), flush=True)
end('finished', 0)
"""
    assert supervise(look) == 0
    assert run_dir.trainer_output.read_text() == "['SFT_TUI_LOCK_FD'] True\n"
    assert locks.folder.is_dir()
    assert not is_locked(locks.folder)  # the supervisor has released it
    assert is_locked(run_dir.path)


@pytest.mark.usefixtures("locks")
@pytest.mark.parametrize(("reason", "kept"), [("refused", False), ("stopped", True)])
def test_only_a_run_that_was_refused_leaves_no_output_folder(
    supervise: Supervised, tmp_path: Path, reason: str, kept: bool
) -> None:
    assert supervise(f"end({reason!r}, 2)") == 2
    assert (tmp_path / "out").exists() == kept


def test_a_run_that_cannot_follow_is_in_the_firsts_log(run_dir: RunDir) -> None:
    run_dir.write_record(
        RunRecord(run_dir.path.name, "demo-t5-pretrain", "train", to_json(preset("demo-t5-pretrain").config))
    )
    log = EventWriter(run_dir.events, "rank0", 1)
    finished = events.RunEnded("finished", 0, Message("ended_finished_unpublished", {"steps_total": 1}))
    for event in (STARTED, PLAN, step(1), finished):
        log.write(event)
    log.close()

    def refuse(_run_dir: RunDir) -> None:
        raise InputError("file_missing", what=Phrase("subject.tokenizer"), path="x", setting="tokenizer")

    supervisor.start_next(refuse, run_dir, 1)
    ((source, warning),) = written(run_dir, events.Warning)
    assert (source, warning.message.code) == ("supervisor", "file_missing")
    assert runs.read_run(run_dir).status == "finished"
