"""The process of a queue, killed at any instant: no entry is run twice, and none is lost."""

import itertools
import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.contract import durable, events
from engine.contract.locks import LOCK_NAME, FolderLock, holder_of
from engine.contract.messages import InputError, Message
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir
from engine.contract.stream import EventWriter
from sft_tui import runs, starting
from sft_tui.preflight.check import Report
from sft_tui.preflight.finding import Finding
from sft_tui.queue import entries, runner
from sft_tui.queue.queue_file import QueueFolder
from sft_tui.queue.runner import Runner
from tests.processes import SFT_TUI, end_runs, options, until
from tests.processes import run as command

FINE = Report([Finding("ok", "plan", "time", {"per_epoch": 5, "total": 10, "batch": 8, "peak": 1.0})])


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


class Machine:
    """What runs would do: each ends at once, as `ends` says; `kill` is called before and after each step."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.ends: Iterator[str] = itertools.repeat("finished")
        self.kill: Callable[[], None] = lambda: None
        self.report: Callable[[str], Report] = lambda _preset: FINE

    def check(self, request: Any) -> Report:
        self.kill()
        return self.report(request.preset)

    def start(self, logs: Path, record: RunRecord) -> Any:
        self.kill()
        opened = starting.open_run_dir(logs, record)
        self.kill()
        log = EventWriter(opened.run_dir.events, "rank0", 1)
        self.started.append(str(record.config["output_dir"]))
        message = Message.of("ended_stopped", step=1, loss="1", resume_option="x")
        log.write(events.RunEnded(next(self.ends), 0, message))
        log.close()
        self.kill()
        return SimpleNamespace(record=opened.record, supervisor=SimpleNamespace(poll=lambda: 0))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    found = Machine()
    monkeypatch.chdir(tmp_path)
    for name in ("data/sft_train_small_train.parquet", "data/sft_train_small_valid.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setattr(runner, "check", found.check)
    monkeypatch.setattr(starting, "start", found.start)
    monkeypatch.setattr(starting, "require_files", lambda *_: None)
    monkeypatch.setattr(runner, "TICK_SECONDS", 0.01)
    write = durable.write_json

    def write_or_die(*given: Any, **how: Any) -> None:
        found.kill()
        write(*given, **how)
        found.kill()

    monkeypatch.setattr("sft_tui.queue.queue_file.write_json", write_or_die)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> QueueFolder:
    return QueueFolder(tmp_path / "logs")


def work(folder: QueueFolder) -> None:
    """One process of the queue, to its end; its locks end with it."""
    lock = FolderLock.acquire(folder.path, "queue", folder.path, "logs")
    try:
        Runner(folder, lock).run()
    except BaseException:
        lock.release()
        raise


def states(folder: QueueFolder) -> list[tuple[int, str, str]]:
    return [(entry.number, entry.state, entry.ended) for entry in folder.read().entries]


def test_runs_are_started_one_after_another_in_their_order(machine: Machine, folder: QueueFolder) -> None:
    for name in ("a", "b", "c"):
        folder.add("sft-small", {"output_dir": name})
    folder.change(entries.moved, 3, 1)
    work(folder)
    assert machine.started == ["c", "a", "b"]
    assert states(folder) == [(3, "done", "finished"), (1, "done", "finished"), (2, "done", "finished")]
    assert [entry.run for entry in folder.read().entries] == ["sft-small-1", "sft-small-2", "sft-small-3"]
    assert not folder.runs


@pytest.mark.parametrize("instant", range(1, 26))
def test_killed_at_any_instant_every_entry_runs_once(machine: Machine, folder: QueueFolder, instant: int) -> None:
    folder.add("sft-small", {"output_dir": "a"})
    folder.add("sft-small", {"output_dir": "b"})
    passed = itertools.count(1)

    def kill() -> None:
        if next(passed) == instant:
            raise Killed

    machine.kill = kill
    for _ in range(2):
        try:
            work(folder)
        except Killed:
            machine.kill = lambda: None
    assert sorted(machine.started) == ["a", "b"]
    assert states(folder) == [(1, "done", "finished"), (2, "done", "finished")]
    assert len(runs.names(folder.logs)) == 2


def test_an_entry_that_the_check_refuses_is_kept_with_the_reason(machine: Machine, folder: QueueFolder) -> None:
    wrong = Finding("error", "file_missing", "train_file", {"what": "x", "path": "y", "setting": "train_file"})
    machine.report = lambda name: Report([wrong]) if name == "pretrain" else FINE
    folder.add("pretrain", {"output_dir": "a"})
    folder.add("sft-small", {"output_dir": "b"})
    work(folder)
    refused, done = folder.read().entries
    assert (refused.state, done.state) == ("refused", "done")
    assert refused.message is not None
    assert "does not exist" in refused.message.text()
    assert machine.started == ["b"]


def test_a_fault_in_one_entry_does_not_stop_the_queue(machine: Machine, folder: QueueFolder) -> None:
    def report(name: str) -> Report:
        if name == "pretrain":
            raise RuntimeError("a bug")
        return FINE

    machine.report = report
    folder.add("pretrain", {"output_dir": "a"})
    folder.add("sft-small", {"output_dir": "b"})
    work(folder)
    assert [entry.state for entry in folder.read().entries] == ["refused", "done"]


@pytest.mark.parametrize("ended", ["stopped", "paused", "terminated"])
def test_a_run_that_somebody_stopped_pauses_the_queue(machine: Machine, folder: QueueFolder, ended: str) -> None:
    machine.ends = iter([ended, "finished"])
    folder.add("sft-small", {"output_dir": "a"})
    folder.add("sft-small", {"output_dir": "b"})
    work(folder)
    queue = folder.read()
    assert (queue.paused, machine.started) == (True, ["a"])
    assert queue.why is not None
    assert queue.why.code == "queue_run_stopped"
    folder.change(entries.without_pause)
    work(folder)
    assert machine.started == ["a", "b"]


def test_a_run_that_failed_does_not_pause_it(machine: Machine, folder: QueueFolder) -> None:
    machine.ends = iter(["diverged", "finished"])
    for name in ("a", "b"):
        folder.add("sft-small", {"output_dir": name})
    work(folder)
    assert [ended for _, _, ended in states(folder)] == ["diverged", "finished"]


def test_what_is_removed_or_paused_while_it_is_checked_is_not_started(machine: Machine, folder: QueueFolder) -> None:
    changes: Iterator[Callable[[], Any]] = iter(
        [lambda: folder.change(entries.removed, 1), lambda: folder.change(entries.with_pause)]
    )

    def report(_preset: str) -> Report:
        next(changes)()
        return FINE

    machine.report = report
    folder.add("sft-small", {"output_dir": "a"})
    folder.add("sft-small", {"output_dir": "b"})
    work(folder)
    assert machine.started == []
    assert states(folder) == [(2, "waiting", "")]


def test_a_stopped_run_that_was_resumed_is_waited_for(
    machine: Machine, folder: QueueFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.ends = iter(["stopped", "finished"])
    for name in ("a", "b"):
        folder.add("sft-small", {"output_dir": name})
    work(folder)
    seen: list[list[str]] = []
    lives = iter([True, True, True])

    def alive(_run_dir: RunDir, _record: RunRecord) -> bool:
        seen.append([entry.state for entry in folder.read().entries])
        return next(lives, False)

    monkeypatch.setattr(runs, "is_alive", alive)
    folder.change(entries.without_pause)
    work(folder)
    assert ["running", "waiting"] in seen
    assert folder.read().paused  # it was stopped once more
    assert machine.started == ["a"]


def test_an_entry_whose_folder_is_gone_is_refused_and_runs_nowhere_else(
    machine: Machine, folder: QueueFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    folder.add("sft-small", {"output_dir": "a"})
    monkeypatch.chdir(tmp_path)
    folder.add("sft-small", {"output_dir": "b"})
    (tmp_path / "gone").rmdir()
    work(folder)
    refused, done = folder.read().entries
    assert (refused.state, done.state) == ("refused", "done")
    assert refused.message is not None
    assert refused.message.args["path"] == str(tmp_path / "gone")
    assert machine.started == ["b"]


def test_a_queue_that_cannot_be_written_for_a_while_goes_on(
    machine: Machine, folder: QueueFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was started meanwhile is found, and neither refused nor started again."""
    change, failed = QueueFolder.change, list[str]()

    def fail_at_first(self: QueueFolder, *given: Any, **how: Any) -> entries.Queue:
        if how.get("state") == "running" and len(failed) < 3:
            failed.append("once more")
            raise InputError("folder_unwritable", path="x", setting="logs", why="No space left on device")
        return change(self, *given, **how)

    monkeypatch.setattr(QueueFolder, "change", fail_at_first)
    monkeypatch.setattr(runner, "RETRY_SECONDS", 0.0)
    folder.add("sft-small", {"output_dir": "a"})
    work(folder)
    assert (len(failed), machine.started, states(folder)) == (3, ["a"], [(1, "done", "finished")])


def test_a_queue_that_can_never_be_written_ends_with_the_reason(
    machine: Machine, folder: QueueFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_self: QueueFolder, *_: Any, **_how: Any) -> entries.Queue:
        raise InputError("folder_unwritable", path="x", setting="logs", why="Read-only file system")

    folder.add("sft-small", {"output_dir": "a"})
    monkeypatch.setattr(QueueFolder, "change", fail)
    monkeypatch.setattr(runner, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(runner, "RETRIES", 5)
    with pytest.raises(InputError, match="Read-only"):
        work(folder)
    assert machine.started == ["a"]


def test_a_lock_whose_file_was_removed_is_taken_again(
    machine: Machine, folder: QueueFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[bool] = []

    def alive(_run_dir: RunDir, _record: RunRecord) -> bool:
        if not held:
            (folder.path / LOCK_NAME).unlink()
        held.append(folder.runs)
        return len(held) < 3

    monkeypatch.setattr(runs, "is_alive", alive)
    folder.add("sft-small", {"output_dir": "a"})
    work(folder)
    assert (held[:3], machine.started) == ([False, True, True], ["a"])


def test_a_process_that_lost_the_queue_to_another_starts_nothing(machine: Machine, folder: QueueFolder) -> None:
    folder.add("sft-small", {"output_dir": "a"})
    lost = FolderLock.acquire(folder.path, "queue", folder.path, "logs")
    (folder.path / LOCK_NAME).unlink()
    other = FolderLock.acquire(folder.path, "queue", folder.path, "logs")
    other.sign(os.getppid(), "queue", folder.path)
    Runner(folder, lost).run()
    assert (machine.started, states(folder)) == ([], [(1, "waiting", "")])
    assert folder.runs
    other.release()


def test_a_process_that_finds_another_one_ends_at_once(folder: QueueFolder) -> None:
    folder.add("sft-small", {})
    lock = FolderLock.acquire(folder.path, "queue", folder.path, "logs")
    assert runner.main(folder.logs) == 0
    lock.release()
    assert states(folder) == [(1, "waiting", "")]


def test_a_queue_that_cannot_be_read_starts_nothing(machine: Machine, folder: QueueFolder) -> None:
    folder.path.mkdir(parents=True)
    folder.file.symlink_to("/dev/null")
    with pytest.raises(InputError):
        work(folder)
    assert machine.started == []


def test_a_queue_works_in_a_process_of_its_own_until_nothing_is_left(tmp_path: Path) -> None:
    queue = QueueFolder(tmp_path / "logs")
    for epochs in ("2", "3"):
        assert command(*SFT_TUI, "queue", "add", "sft-small", "--epochs", epochs, folder=tmp_path).code == 0
    until(lambda: [entry.state for entry in queue.read().entries] == ["refused"] * 2)
    until(lambda: not queue.runs)
    assert "does not exist" in command(*SFT_TUI, "queue", folder=tmp_path).out
    assert queue.output.read_text() == ""


@pytest.mark.slow
def test_a_killed_queue_continues_with_the_next_command(tmp_path: Path, tiny_settings: dict[str, Any]) -> None:
    """With processes: the run outlives the queue that started it, and is not started again."""
    brief = {**tiny_settings, "epochs": 1, "bleu_rows": 1, "save_steps": 100}
    slow = {**brief, "epochs": 400}
    queue = QueueFolder(tmp_path / "logs")

    def called(*words: str) -> str:
        result = command(*SFT_TUI, "queue", *words, folder=tmp_path)
        assert result.code == 0, result.err
        return result.out

    def state(number: int) -> str:
        return queue.read().entry(number).state

    try:
        called("add", "sft-small", *options({**slow, "output_dir": "one"}))
        called("add", "sft-small", *options({**brief, "output_dir": "two"}))
        until(lambda: state(1) == "running")
        process = holder_of(queue.path).process
        os.kill(process.pid, signal.SIGKILL)
        until(lambda: not queue.runs)
        shown = json.loads(called("--json"))
        assert [entry["state"] for entry in shown["entries"]] == ["running", "waiting"]
        until(lambda: queue.runs)
        assert state(2) == "waiting"
        assert command(*SFT_TUI, "stop", "sft-small-1", folder=tmp_path).code == 0
        until(lambda: queue.read().paused)
        called("resume")
        until(lambda: state(2) == "done")
        assert queue.read().entry(2).ended == "finished"
        assert sorted(runs.names(queue.logs)) == ["sft-small-1", "sft-small-2"]
        until(lambda: not queue.runs)
    finally:
        end_runs(tmp_path)


def test_the_id_of_a_run_that_a_queue_chose_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(starting, "require_files", lambda *_: None)
    record = replace(starting.plan_run("sft-small", {}), id="0" * 32)
    assert starting.open_run_dir(Path("logs"), record).record.id == "0" * 32


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("late", [False, True])
def test_a_run_without_an_end_is_said_to_have_none(
    folder: QueueFolder, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    monkeypatch.setattr(runner, "END_SECONDS", 30 if late else 0.05)

    def start(logs: Path, record: RunRecord) -> Any:
        opened = starting.open_run_dir(logs, record)
        return SimpleNamespace(record=opened.record, supervisor=SimpleNamespace(poll=lambda: 0))

    looks = itertools.count()
    read = runs.read_run

    def read_run(run_dir: RunDir) -> runs.Run:
        if late and next(looks) == 3:  # written by another process meanwhile
            log = EventWriter(run_dir.events, "app", 1)
            log.write(events.RunEnded("killed", 1, Message.of("ended_stopped", step=1, loss="1", resume_option="x")))
            log.close()
        return read(run_dir)

    monkeypatch.setattr(starting, "start", start)
    monkeypatch.setattr(runs, "read_run", read_run)
    folder.add("sft-small", {"output_dir": "a"})
    work(folder)
    (entry,) = folder.read().entries
    assert (entry.state, entry.ended) == ("done", "killed" if late else "")
    assert late or (entry.message is not None and entry.message.code == "queue_no_end")
