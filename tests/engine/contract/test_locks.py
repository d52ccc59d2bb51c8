"""Locks of folders: one holder at a time, shared with whom it starts, free as soon as the last of them is dead."""

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.contract import events, locks
from engine.contract.bounds import as_json
from engine.contract.durable import read_json, write_json
from engine.contract.locks import LOCK_NAME, FolderLock, Holder, busy, holder_of, is_locked
from engine.contract.messages import BusyError, InputError, Message
from engine.contract.outputdir import OutputDir
from engine.contract.owner import new_id
from engine.contract.processes import ProcessId
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir
from engine.contract.stream import EventWriter
from tests.processes import until

Together = Callable[..., list[str]]
Start = Callable[..., Any]
Patch = pytest.MonkeyPatch

RACERS = 50


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An output folder that is not there yet, two levels down."""
    return tmp_path / "model_save" / "sft"


def take(folder: Path, run: str, **where: Any) -> FolderLock:
    """The lock of `folder`, for a run whose own folder does not matter."""
    return FolderLock.acquire(folder, run, Path("logs") / run, **where)


def files(folder: Path) -> list[str]:
    """The files in a folder, as paths within it."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def step(number: int) -> events.Step:
    """The event of a step."""
    return events.Step(1, number, 99, 1.5, 1e-3, 1.0, 1, 1, 1, 0.1, 0.1, 0.1, 1, [])


# --- one holder at a time

CONTENDING = """
path, run = sys.argv[1:]
gate()
try:
    lock = locks.FolderLock.acquire(Path(path), run, Path(path) / "log")
    reported = {"run": run, "pid": os.getpid()}
except BusyError as error:
    reported = {"busy": error.message.what(), "fix": error.message.fix(), "exit": error.exit_code}
import signal
print(json.dumps(reported), flush=True)
signal.pause()  # until all have reported
"""
HOLDING = """
lock = locks.FolderLock.acquire(Path(sys.argv[1]), sys.argv[2], Path("logs"))
gate()
"""


def race(start: Start, folder: Path) -> list[dict[str, Any]]:
    """Lets many processes have at the lock at once; the winner holds it until all others were refused."""
    entrance, opened = os.pipe()
    processes = [start(CONTENDING, folder, f"sft-{number}", gate=entrance) for number in range(RACERS)]
    os.close(entrance)
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    os.close(opened)
    reported = [json.loads(process.stdout.readline()) for process in processes]
    for process in processes:
        process.kill()
    return reported


@pytest.mark.parametrize("made", [False, True], ids=["new folder", "folder of an earlier run"])
def test_one_of_many_gets_the_lock_and_the_others_learn_who(made: bool, start: Start, folder: Path) -> None:
    if made:
        folder.mkdir(parents=True)
        (folder / LOCK_NAME).write_text('{"run": "earlier", "pid": 1, "since": "2020-01-01 00:00:00"}')

    reported = race(start, folder)

    (winner,) = [each for each in reported if "run" in each]
    losers = [each for each in reported if "busy" in each]
    assert len(losers) == RACERS - 1
    for loser in losers:
        assert str(folder) in loser["busy"]
        assert re.search(
            rf"{winner['run']} \(pid {winner['pid']}, since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\)", loser["busy"]
        )
        assert f"`sft-tui attach {winner['run']}`" in loser["fix"]
        assert f"`sft-tui stop {winner['run']}`" in loser["fix"]
        assert loser["exit"] == 3


def test_the_lock_of_a_killed_run_is_free_at_once(start: Start, folder: Path) -> None:
    holder = start(HOLDING, folder, "sft-1")
    assert holder.stdout.readline() == "ready\n"
    assert is_locked(folder)
    with pytest.raises(BusyError, match=rf"sft-1 \(pid {holder.pid}, since "):
        take(folder, "sft-2")

    holder.send_signal(signal.SIGKILL)
    holder.wait()

    assert not is_locked(folder)
    lock = take(folder, "sft-2")
    assert holder_of(folder).run == "sft-2"
    lock.abandon()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": null}', b'{"pid": "x"}', b'{"run": 1}', b"\xff"])
def test_a_lock_without_a_signature_is_still_held(content: bytes, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / LOCK_NAME).write_bytes(content)
    with (folder / LOCK_NAME).open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)

        with pytest.raises(BusyError) as refused:
            take(folder, "sft-2")

    assert str(folder) in str(refused.value)
    assert "pid 0" not in str(refused.value)  # the kill of which would end every process of the reader's own shell


def test_a_holder_that_stood_still_before_it_signed_is_named(folder: Path, monkeypatch: Patch) -> None:
    """As a machine does that has too much to do, or that slept."""
    lock, clock = take(folder, "sft-1"), [time.monotonic()]
    signature, sleeps = (folder / LOCK_NAME).read_text(), iter(range(1000))
    (folder / LOCK_NAME).write_text("")

    def sleep(seconds: float) -> None:
        clock[0] += max(seconds, 10.0)
        if next(sleeps) == 2:
            (folder / LOCK_NAME).write_text(signature)

    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "sleep", sleep)
    with pytest.raises(BusyError, match=rf"sft-1 \(pid {os.getpid()}, since "):
        take(folder, "sft-2")
    lock.abandon()


def test_a_free_folder_is_not_locked(folder: Path) -> None:
    assert not is_locked(folder)
    lock = take(folder, "sft-1")
    assert is_locked(folder)

    lock.abandon()

    assert not is_locked(folder)


ASKING = """
print("asking", flush=True)
while True:
    locks.is_locked(Path(sys.argv[1]))
"""


def test_a_query_does_not_block_a_lock(start: Start, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / LOCK_NAME).touch()
    asking = start(ASKING, folder)
    assert asking.stdout.readline() == "asking\n"

    for number in range(300):
        take(folder, f"sft-{number}").abandon()

    assert asking.poll() is None


COUNTING = """
gate()
print(sum(locks.is_locked(Path(sys.argv[1])) for _ in range(5000)))
"""


def test_simultaneous_queries_do_not_see_each_other_as_holders(together: Together, folder: Path) -> None:
    """A second viewer that looks at the same moment must not make an ended run seem alive."""
    folder.mkdir(parents=True)
    (folder / LOCK_NAME).touch()

    assert together(COUNTING, [[folder]] * 4) == ["0\n"] * 4


TAKING_TURNS = """
path, inside = sys.argv[1:]
gate()
taken = 0
for number in range(200):
    try:
        lock = locks.FolderLock.acquire(Path(path), "sft", Path("logs"))
    except BusyError:
        continue
    os.close(os.open(inside, os.O_CREAT | os.O_EXCL))  # fails where another is inside
    os.unlink(inside)
    lock.abandon()
    taken += 1
print(taken)
"""


def test_no_two_runs_hold_a_folder_while_others_come_and_go(together: Together, folder: Path, tmp_path: Path) -> None:
    folder.parent.mkdir()

    taken = together(TAKING_TURNS, [[folder, tmp_path / "inside"]] * 4)

    assert sum(map(int, taken)) > 4
    assert not is_locked(folder)


# --- shared with the processes that inherit it

SHARING = """
import subprocess
folder = Path(sys.argv[1])
lock = locks.FolderLock.acquire(folder, "sft-1", folder)
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], pass_fds=[lock.fd])
lock.sign(child.pid, "sft-1", folder)
print(child.pid, flush=True)
sys.stdin.read()
lock.release()
print("released", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("first", ["starter", "child"])
def test_a_shared_lock_lasts_until_both_processes_end(first: str, start: Start, folder: Path) -> None:
    starter = start(SHARING, folder)
    child = ProcessId.of(int(starter.stdout.readline()))
    assert child is not None

    def end_starter() -> None:
        starter.kill()
        starter.wait()

    def end_child() -> None:
        os.kill(child.pid, signal.SIGKILL)
        until(lambda: not child.alive())

    order = [end_starter, end_child] if first == "starter" else [end_child, end_starter]
    try:
        assert holder_of(folder).process == child
        order[0]()
        assert is_locked(folder)
        with pytest.raises(BusyError, match=rf"sft-1 \(pid {child.pid}, since "):
            take(folder, "sft-2")
        order[1]()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)
    assert not is_locked(folder)
    take(folder, "sft-2").abandon()


def test_dropping_a_share_leaves_the_lock_to_the_others(start: Start, folder: Path) -> None:
    starter = start(SHARING, folder)
    child = ProcessId.of(int(starter.stdout.readline()))
    assert child is not None
    try:
        starter.stdin.close()
        assert starter.stdout.readline() == "released\n"
        starter.wait()
        assert is_locked(folder)
    finally:
        os.kill(child.pid, signal.SIGKILL)
    until(lambda: not is_locked(folder))


INHERITING = """
import engine.contract.locks as locks
from pathlib import Path
import sys
locks.FolderLock.inherited(Path(sys.argv[1]), int(sys.argv[2]), "sft-1", Path("logs"), int(sys.argv[3])).abandon()
"""


def test_an_heir_of_a_lock_can_abandon_it_and_its_new_folders(folder: Path, tmp_path: Path) -> None:
    """As the supervisor does for a run that was refused: the process that started it may be gone."""
    lock = take(folder, "sft-1")
    command = [sys.executable, "-c", INHERITING, str(folder), str(lock.fd), str(lock.made)]
    subprocess.run(command, pass_fds=[lock.fd], check=True, timeout=60)
    lock.release()

    assert list(tmp_path.iterdir()) == []


def test_a_lock_is_not_inherited_unless_passed_on(folder: Path) -> None:
    lock = take(folder, "sft-1")
    other = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], close_fds=False)
    try:
        lock.release()
        until(lambda: not is_locked(folder), 20)  # while it loads its program it still has it for a moment
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


# --- who signed it


def test_a_signature_is_read_back_as_it_was_written(folder: Path) -> None:
    lock = FolderLock.acquire(folder, "sft-1", Path("logs/sft-1"))
    signed = holder_of(folder)

    assert signed.process == ProcessId.of(os.getpid())
    assert (signed.run, signed.run_dir) == ("sft-1", str(Path.cwd() / "logs/sft-1"))
    lock.abandon()


SIGNATURES: list[Any] = [None, [], "x", {}, {"pid": "7"}, {"pid": None}, {"pid": -7}, {"pid": 2**80}, {"boot": "x"}]


@pytest.mark.parametrize("value", [*SIGNATURES, {"pid": 7, "run_dir": "a\0b"}, {"pid": 7, "run": ["x"]}], ids=repr)
def test_an_invalid_signature_names_nobody(value: Any, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / LOCK_NAME).write_text(json.dumps(value))

    assert holder_of(folder).pid == 0
    assert not holder_of(folder).process.alive()
    assert "(pid ?, since ?" in busy(folder).message.text()


def test_a_folder_never_locked_has_no_signature(folder: Path) -> None:
    assert holder_of(folder) == Holder()
    assert holder_of(folder.parent) == Holder()


@pytest.mark.parametrize("changed", [{"boot": "another"}, {"start": "1"}], ids=["another boot", "a reused pid"])
def test_a_lock_signed_by_a_dead_process_is_taken_once_free(changed: dict[str, str], folder: Path) -> None:
    """Its signature names a process that is there, and not the one that signed."""
    lock = take(folder, "sft-1")
    (folder / LOCK_NAME).write_text(json.dumps({**as_json(holder_of(folder)), **changed}))
    lock.release()

    assert not is_locked(folder)
    again = take(folder, "sft-2")
    assert holder_of(folder).run == "sft-2"
    again.abandon()


def test_a_holder_on_another_machine_is_named_with_it(folder: Path) -> None:
    signed = Holder("sft-1", "", "yesterday", 7, "1", "another boot", "oak")
    assert "sft-1 (pid 7 on oak, since yesterday)" in busy(folder, signed).message.what()
    assert not signed.process.alive()  # a process here with the same pid is another one


def held_elsewhere(folder: Path, run_dir: RunDir, *written: events.Event, age: float = 5.0) -> None:
    """The lock of a folder as seen from a mount that does not show the locks of other machines."""
    folder.mkdir(parents=True)
    signed = Holder("sft-1", str(run_dir.path), "today", 7, "1", "another boot", "oak")
    (folder / LOCK_NAME).write_text(json.dumps(as_json(signed)))
    writer = EventWriter(run_dir.events, "rank0", 1)
    for event in written:
        writer.write(event)
    writer.close()
    os.utime(run_dir.events, (time.time() - age,) * 2)


def test_a_run_that_writes_on_another_machine_keeps_its_folder(
    folder: Path, tmp_path: Path, monkeypatch: Patch
) -> None:
    """Whatever its lock seems to be: a mount may keep locks to each machine."""
    held_elsewhere(folder, RunDir(tmp_path), step(3))
    beat = EventWriter(RunDir(tmp_path).events, "rank0", 1)
    monkeypatch.setattr(time, "sleep", lambda _seconds: beat.write(step(4)))
    with pytest.raises(BusyError, match=r"sft-1 \(pid 7 on oak, since today, at step 4\)"):
        take(folder, "sft-2")
    assert holder_of(folder).run == "sft-1"


@pytest.mark.parametrize("gone", ["ended", "silent", "killed just now"])
def test_a_run_that_ended_on_another_machine_frees_its_folder(
    folder: Path, tmp_path: Path, monkeypatch: Patch, gone: str
) -> None:
    """One that was killed a moment ago is looked at until it would have written: its job may begin again at once."""
    end = events.RunEnded("finished", 0, Message.of("resume_finished"))
    held_elsewhere(folder, RunDir(tmp_path), *[end] * (gone == "ended"), age=200.0 if gone == "silent" else 5.0)
    monkeypatch.setattr(locks, "GROW_SECONDS", 0.0)
    take(folder, "sft-2").abandon()


def test_a_run_that_moved_to_this_machine_does_not_wait_for_itself(
    folder: Path, tmp_path: Path, monkeypatch: Patch
) -> None:
    """Its own heartbeats are in the stream by the time it takes the output folder."""
    run_dir = RunDir(tmp_path / "run")
    run_dir.path.mkdir()
    held_elsewhere(folder, run_dir)
    mine = FolderLock.acquire(run_dir.path, "sft-1", run_dir.path, "logs")
    beat = EventWriter(run_dir.events, "rank0", 2)
    monkeypatch.setattr(time, "sleep", lambda _seconds: beat.write(step(4)))
    FolderLock.acquire(folder, "sft-1", run_dir.path).abandon()
    mine.release()


@pytest.mark.parametrize(("number", "locked"), [(errno.ENOSYS, False), (errno.EAGAIN, True), (errno.ENOLCK, True)])
def test_where_nobody_can_lock_a_folder_is_not_locked(
    folder: Path, monkeypatch: Patch, number: int, locked: bool
) -> None:
    def flock(_fd: int, _how: int) -> None:
        raise OSError(number, os.strerror(number))

    folder.mkdir(parents=True)
    (folder / LOCK_NAME).touch()
    monkeypatch.setattr(fcntl, "flock", flock)
    assert is_locked(folder) == locked


def test_a_file_system_without_locks_is_refused_in_words(folder: Path, monkeypatch: Patch) -> None:
    def flock(_fd: int, _how: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(InputError, match="file system without locks"):
        take(folder, "sft-1")


def test_the_holder_is_named_with_its_last_checkpoint(folder: Path) -> None:
    lock = take(folder, "sft-1")
    OutputDir(folder).checkpoint(41).mkdir(parents=True)

    with pytest.raises(BusyError, match="last checkpoint at step 41") as refused:
        take(folder, "sft-2")

    assert refused.value.exit_code == 3
    lock.abandon()


def test_the_holder_is_named_with_its_last_step(folder: Path, tmp_path: Path) -> None:
    lock = FolderLock.acquire(folder, "sft-1", tmp_path)
    OutputDir(folder).checkpoint(41).mkdir(parents=True)
    writer = EventWriter(RunDir(tmp_path).events, "rank0", 1)
    for number in (41, 42, 43):
        writer.write(step(number))
    writer.write(events.Heartbeat("training", 9))
    writer.close()

    reported = busy(folder).message

    assert "at step 43)" in reported.what()
    assert "在第 43 步）" in reported.what("zh")
    assert "since" not in reported.what("zh")
    assert reported.args["run"] == "sft-1"
    lock.abandon()


# --- giving it back


def test_abandoning_removes_the_folders_it_made(folder: Path, tmp_path: Path) -> None:
    take(folder, "sft-1").abandon()

    assert list(tmp_path.iterdir()) == []


def test_abandoning_keeps_folders_that_are_not_empty(folder: Path, tmp_path: Path) -> None:
    lock = take(folder, "sft-1")
    (tmp_path / "model_save" / "other").mkdir()

    lock.abandon()

    assert os.listdir(tmp_path / "model_save") == ["other"]


def test_abandoning_keeps_what_the_run_wrote(folder: Path) -> None:
    lock = take(folder, "sft-1")
    (folder / "note.txt").write_text("kept")

    lock.abandon()

    assert files(folder) == ["note.txt"]
    assert not is_locked(folder)


def test_abandoning_keeps_a_folder_that_existed_before(folder: Path) -> None:
    folder.mkdir(parents=True)

    take(folder, "sft-1").abandon()

    assert folder.is_dir()


def test_releasing_keeps_all_and_leaves_the_folder_free(folder: Path) -> None:
    lock = take(folder, "sft-1")

    lock.release()

    assert files(folder) == [LOCK_NAME]
    assert not is_locked(folder)


def test_a_folder_removed_while_locking_is_made_again(folder: Path, monkeypatch: Patch) -> None:
    """As it does where another run gives the folder up at that moment."""
    real, vanished = os.open, list[Path]()

    def opening(path: Any, *args: Any, **kwargs: Any) -> int:
        if path == folder / LOCK_NAME and not vanished:
            vanished.append(path)
            folder.rmdir()
        return real(path, *args, **kwargs)

    monkeypatch.setattr("engine.contract.locks.os.open", opening)
    lock = take(folder, "sft-1")

    assert vanished
    assert read_json(folder / LOCK_NAME)["run"] == "sft-1"
    lock.abandon()


@pytest.mark.parametrize("again", [False, True], ids=["gone", "made again"])
def test_a_lock_on_a_removed_file_does_not_count(again: bool, folder: Path, monkeypatch: Patch) -> None:
    real, removed = fcntl.flock, list[Path]()

    def locking(fd: int, operation: int) -> None:
        if not removed:
            removed.append(folder / LOCK_NAME)
            (folder / LOCK_NAME).unlink()
            if again:
                (folder / LOCK_NAME).touch()
        real(fd, operation)

    monkeypatch.setattr("engine.contract.locks.fcntl.flock", locking)
    lock = take(folder, "sft-1")

    assert removed
    with pytest.raises(BusyError, match="sft-1"):
        take(folder, "sft-2")
    lock.abandon()


# --- folders that cannot be locked


@pytest.mark.parametrize("setting", ["output_dir", "logs"])
def test_a_file_in_place_of_the_folder_is_reported(setting: str, folder: Path) -> None:
    folder.parent.mkdir()
    folder.touch()

    with pytest.raises(InputError, match=re.escape(str(folder))) as refused:
        take(folder, "sft-1", setting=setting)

    assert refused.value.message.code == "folder_unwritable"
    assert f"--{setting}" in refused.value.message.fix()
    assert not isinstance(refused.value, BusyError)


def test_a_full_disk_is_reported_and_leaves_the_folder_free(folder: Path, monkeypatch: Patch) -> None:
    def full(*_args: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("engine.contract.locks.os.pwrite", full)
    with pytest.raises(InputError, match="No space left on device"):
        take(folder, "sft-1")

    assert not is_locked(folder)


# --- the lock file itself: removed, replaced, or somebody else's


def test_a_lock_is_taken_again_when_its_file_was_removed(folder: Path) -> None:
    lock = take(folder, "sft-1")
    (folder / LOCK_NAME).unlink()
    assert not is_locked(folder)

    assert lock.hold()

    assert is_locked(folder)
    assert holder_of(folder).run == "sft-1"
    with pytest.raises(BusyError, match="sft-1"):
        take(folder, "sft-2")
    lock.abandon()


def test_a_lock_in_place_is_held_as_it_is(folder: Path) -> None:
    lock = take(folder, "sft-1")
    before = (folder / LOCK_NAME).stat()
    assert lock.hold()
    assert os.path.samestat((folder / LOCK_NAME).stat(), before)
    lock.abandon()


def test_losing_the_folder_to_another_run_is_noticed(start: Start, folder: Path) -> None:
    lock = take(folder, "sft-1")
    (folder / LOCK_NAME).unlink()
    holder = start(HOLDING, folder, "sft-2")
    assert holder.stdout.readline() == "ready\n"

    assert not lock.hold()

    assert holder_of(folder).run == "sft-2"
    lock.release()


HOLDING_AGAIN = """
import signal, sys
from pathlib import Path
from engine.contract import locks
lock = locks.FolderLock.inherited(Path(sys.argv[1]), int(sys.argv[2]), "sft-1", Path(sys.argv[1]) / "log")
print(lock.hold(), flush=True)
signal.pause()
"""


def test_a_lock_retaken_by_our_supervisor_or_rank_is_ours(folder: Path) -> None:
    """Whichever of the two notices first has it; the other is not ended by that, and takes it over when it is alone."""
    lock = FolderLock.acquire(folder, "sft-1", folder / "log")
    (folder / LOCK_NAME).unlink()
    command = [
        sys.executable,
        "-c",
        "import sys\nfrom pathlib import Path\nfrom engine.contract import locks" + HOLDING_AGAIN,
    ]
    child = subprocess.Popen(
        [*command, str(folder), str(lock.fd)], pass_fds=[lock.fd], stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "True\n"
        assert holder_of(folder).pid == child.pid
        assert lock.hold()
        assert holder_of(folder).pid == child.pid
        child.kill()
    assert lock.hold()
    assert holder_of(folder).pid == os.getpid()
    lock.abandon()


def test_a_removed_folder_is_not_made_again_for_its_lock(folder: Path) -> None:
    lock = take(folder, "sft-1")
    (folder / LOCK_NAME).unlink()
    folder.rmdir()
    assert lock.hold()
    assert not folder.exists()
    lock.release()


@pytest.fixture
def running(folder: Path, tmp_path: Path) -> RunDir:
    """A run at work in the folder, as its files tell: the process is our parent."""
    run_dir, id = RunDir(tmp_path / "logs" / "sft-1"), new_id()
    run_dir.path.mkdir(parents=True)
    folder.mkdir(parents=True)
    run_dir.write_record(RunRecord("sft-1", "sft", "train", {"output_dir": str(folder)}, id=id))
    owner = {"run": "sft-1", "id": id, "run_dir": str(run_dir.path), "output_dir": str(folder.resolve())}
    write_json(OutputDir(folder).owner_file, owner)
    alive = ProcessId.of(os.getppid())
    assert alive is not None
    write_json(run_dir.processes, {"attempt": 1, "supervisor": {}, "ranks": [vars(alive)]})
    return run_dir


@pytest.mark.usefixtures("running")
def test_a_removed_lock_file_lets_no_second_run_start(folder: Path) -> None:
    with pytest.raises(BusyError, match=rf"sft-1 \(pid {os.getppid()}"):
        take(folder, "sft-2")
    assert not is_locked(folder)


@pytest.mark.usefixtures("running")
def test_a_running_run_does_not_hold_a_copy_of_its_folder(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    take(tmp_path / "copy", "sft-2").release()


def test_a_run_that_ended_holds_nothing(running: RunDir, folder: Path) -> None:
    write_json(running.processes, {"supervisor": {"pid": os.getppid(), "start": "1", "boot": "x"}, "ranks": [None, 3]})
    take(folder, "sft-2").release()


@pytest.mark.parametrize("content", ["mine", '{"packages": []}', "[1]", " "])
def test_a_foreign_lock_file_is_not_overwritten(content: str, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / LOCK_NAME).write_text(content)
    with pytest.raises(InputError, match="no run wrote"):
        take(folder, "sft-1")
    assert (folder / LOCK_NAME).read_text() == content


@pytest.mark.parametrize("content", [b"", b"\0" * 90, b'{"ru', b'{"run": "x", "pid"'])
def test_a_truncated_lock_file_is_taken(content: bytes, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / LOCK_NAME).write_bytes(content)
    take(folder, "sft-1").release()


@pytest.mark.parametrize("planted", ["link", "broken link", "hard link", "pipe", "device"])
def test_a_pipe_or_link_in_place_of_a_lock_is_not_opened(planted: str, folder: Path) -> None:
    folder.mkdir(parents=True)
    victim, place = folder / "victim", folder / LOCK_NAME
    victim.write_text("precious")
    match planted:
        case "link":
            place.symlink_to("victim")
        case "broken link":
            place.symlink_to("made")
        case "hard link":
            place.hardlink_to(victim)
        case "pipe":
            os.mkfifo(place)
        case "device":
            place.symlink_to("/dev/zero")
    with pytest.raises(InputError, match="cannot be written"):
        take(folder, "sft-1")
    assert not is_locked(folder)
    assert (victim.read_text(), (folder / "made").exists()) == ("precious", False)


def test_the_text_of_a_lock_file_deletes_nothing(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "thesis.txt").write_text("precious")
    lock = take(folder, "sft-1")
    made = [str(tmp_path / "thesis.txt"), str(tmp_path / "theirs")]
    (folder / LOCK_NAME).write_text(json.dumps({**as_json(holder_of(folder)), "made": made}))

    lock.abandon()

    assert sorted(os.listdir(tmp_path)) == ["theirs", "thesis.txt"]


TAKING_AND_REMOVING = """
path, inside = sys.argv[1:]
gate()
taken = 0
for number in range(200):
    try:
        lock = locks.FolderLock.acquire(Path(path), "sft", Path("logs"))
    except BusyError:
        continue
    os.close(os.open(inside, os.O_CREAT | os.O_EXCL))  # fails where another is inside
    (Path(path) / "RUN.json").touch()
    (Path(path) / "RUN.json").unlink()
    os.unlink(inside)
    lock.remove()
    taken += 1
print(taken)
"""


def test_no_two_hold_a_folder_that_is_removed_and_made_again(together: Together, folder: Path, tmp_path: Path) -> None:
    taken = together(TAKING_AND_REMOVING, [[folder, tmp_path / "inside"]] * 4)

    assert sum(map(int, taken)) > 4
    assert not folder.exists()
