"""Folders of runs: each run its own, one writer at a time, nothing lost, nothing half written."""

import errno
import fcntl
import json
import os
import re
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract.config import RunConfig, to_json
from engine.contract.messages import BusyError, InputError
from engine.contract.rundir import (
    FolderLock,
    OutputDir,
    RunDir,
    RunRecord,
    create_run_dir,
    free_bytes,
    is_locked,
    read_json,
    refuse_unfinished,
    write_json,
)

Together = Callable[..., list[str]]
Start = Callable[..., Any]
Patch = pytest.MonkeyPatch
TEXTS = ["中文", "😀", "a\nb", "\x1b[31m", "\u2028", '"', "\udce9", ""]


def ascii_start(value: object) -> str:
    """A name for a test with this value."""
    return ascii(value)[:72]


@pytest.fixture
def output(tmp_path: Path) -> OutputDir:
    """An output folder that is not there yet, two levels down."""
    return OutputDir(tmp_path / "model_save" / "sft")


def record(**values: Any) -> RunRecord:
    """The record of a run."""
    return RunRecord(run="sft-1", preset="sft", job="train", config=to_json(RunConfig()), **values)


def left_behind(output: OutputDir, run: str, step: int = 7) -> list[str]:
    """Fills `output` as the run would; the files, as paths within it."""
    output.checkpoint(step).mkdir(parents=True)
    (output.checkpoint(step) / "model.safetensors").write_bytes(b"m" * 100)
    (output.checkpoints / "frozen").mkdir()
    (output.checkpoints / "frozen" / "f.safetensors").write_bytes(b"f" * 50)
    output.best.mkdir()
    (output.best / "config.json").write_text(run)
    write_json(output.evaluations, {"7": {"bleu": 1.5}})
    write_json(output.owner_file, {"run": run, "run_dir": "logs/x", "steps_total": 9, "finished": False})
    return files(output.path)


def files(folder: Path) -> list[str]:
    """The files in a folder, as paths within it."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# --- the folder of a run

CREATING = """
logs, preset = sys.argv[1:]
gate()
print(rundir.create_run_dir(Path(logs), preset).path)
"""


def test_every_one_of_many_runs_started_at_once_has_a_folder_of_its_own(together: Together, tmp_path: Path) -> None:
    logs = tmp_path / "logs"

    made = [Path(printed.strip()) for printed in together(CREATING, [[logs, "sft"]] * 20)]

    assert all(path.is_dir() for path in made)
    assert {path.name for path in made} == {f"sft-{number}" for number in range(1, 21)}


def test_runs_are_numbered_on_from_the_highest_of_their_preset(tmp_path: Path) -> None:
    for name in ("sft-2", "sft-9", "sft-small-40", "sft-x", "sft-", "old-sft-50", "sft-7.bak"):
        (tmp_path / name).mkdir()

    assert create_run_dir(tmp_path, "sft").path == tmp_path / "sft-10"
    assert create_run_dir(tmp_path, "sft").path == tmp_path / "sft-11"
    assert create_run_dir(tmp_path, "sft-small").path == tmp_path / "sft-small-41"


def test_a_file_in_place_of_the_logs_is_named(tmp_path: Path) -> None:
    (tmp_path / "logs").touch()

    with pytest.raises(InputError, match=re.escape(str(tmp_path / "logs"))) as refused:
        create_run_dir(tmp_path / "logs", "sft")

    assert refused.value.message.code == "folder_unwritable"


def test_a_stop_is_asked_for_by_a_file(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    assert not run_dir.stop_request.exists()

    run_dir.request_stop()
    run_dir.request_stop()

    assert run_dir.stop_request.exists()


# --- its record


@pytest.mark.parametrize("text", TEXTS)
def test_a_record_is_read_back_as_it_was_written(text: str, tmp_path: Path) -> None:
    written = record(overrides={"seed": [1, 2]}, processes=2, resume=True, resume_option=f"sft-tui {text}")
    written = replace(written, config=to_json(replace(RunConfig(), output_dir=text, seed=3)))

    RunDir(tmp_path).write_record(written)

    assert RunDir(tmp_path).read_record() == written
    assert RunDir(tmp_path).read_record().run_config() == replace(RunConfig(), output_dir=text, seed=3)


def test_a_record_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=re.escape(str(tmp_path / "run.json"))) as refused:
        RunDir(tmp_path).read_record()

    assert refused.value.message.code == "run_record_bad"


def test_a_record_with_a_setting_out_of_range_names_it(tmp_path: Path) -> None:
    RunDir(tmp_path).write_record(replace(record(), config={**to_json(RunConfig()), "epochs": 0}))

    with pytest.raises(InputError, match="epochs = 0"):
        RunDir(tmp_path).read_record().run_config()


NO_RECORDS = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"{}",
    b"\xff\xfe",
    b'{"run": "a"}',
    b'{"run": "a", "preset": "b", "job": "train", "config": []}',
    b'{"run": "a", "preset": "b", "job": "train", "config": null}',
    b'{"run": 1, "preset": "b", "job": "train", "config": {}, "processes": "2"}',
    b"[" * 100_000,
]


@pytest.mark.parametrize("content", NO_RECORDS, ids=ascii_start)
def test_what_is_no_record_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(content)

    with pytest.raises(InputError, match=re.escape("run.json")):
        RunDir(tmp_path).read_record().run_config()


# --- JSON files

SWAPPING = """
path = Path(sys.argv[1])
gate()
for number in range(1, 101):
    rundir.write_json(path, {"number": number, "text": str(number) * 100_000})
"""


def test_a_reader_finds_the_old_file_or_the_new_one(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_json(path, {"number": 0, "text": ""})
    writer = start(SWAPPING, path)
    assert writer.stdout.readline() == "ready\n"
    writer.stdin.close()

    seen: set[int] = set()
    while writer.poll() is None or not seen:
        value = json.loads(path.read_text(encoding="utf-8"))
        assert value["text"] == str(value["number"]) * 100_000 or value["number"] == 0
        seen.add(value["number"])

    assert writer.returncode == 0
    assert len(seen) > 1
    assert os.listdir(tmp_path) == ["state.json"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: Patch) -> None:
    path = tmp_path / "state.json"
    write_json(path, {"number": 1})

    def full(_fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("engine.contract.rundir.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_json(path, {"number": 2})

    assert read_json(path) == {"number": 1}


@pytest.mark.parametrize("text", TEXTS)
def test_every_text_is_read_back(text: str, tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"text": text, text: 1})

    assert read_json(tmp_path / "a.json") == {"text": text, text: 1}


@settings(deadline=None, max_examples=60)
@given(content=st.binary())
def test_no_bytes_make_reading_fail(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("json") / "a.json"
    path.write_bytes(content)

    assert read_json(path) == {}


@pytest.mark.parametrize("content", [b"[1]", b"null", b'"a"', b"1" * 5000, b'{"a":' * 100_000], ids=ascii_start)
def test_what_is_no_object_reads_as_an_empty_one(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)

    assert read_json(tmp_path / "a.json") == {}


def test_what_is_not_there_reads_as_an_empty_object(tmp_path: Path) -> None:
    assert read_json(tmp_path / "none.json") == {}
    assert read_json(tmp_path) == {}


def test_free_space_is_known_before_the_folder_is_there(tmp_path: Path, monkeypatch: Patch) -> None:
    asked: list[Path] = []

    def usage(path: Path) -> Any:
        asked.append(path)
        return type("Usage", (), {"free": 12345})

    monkeypatch.setattr("engine.contract.rundir.shutil.disk_usage", usage)
    monkeypatch.chdir(tmp_path)

    assert free_bytes(Path("a/b/c")) == 12345
    assert asked == [tmp_path]


# --- the lock of the output folder

CONTENDING = """
path, run = sys.argv[1:]
gate()
try:
    lock = rundir.FolderLock.acquire(rundir.OutputDir(Path(path)), run)
    told = {"run": run, "pid": os.getpid()}
except BusyError as error:
    told = {"busy": error.message.what(), "fix": error.message.fix(), "exit": error.exit_code}
import signal
print(json.dumps(told), flush=True)
signal.pause()  # until all have told
"""
HOLDING = """
lock = rundir.FolderLock.acquire(rundir.OutputDir(Path(sys.argv[1])), sys.argv[2])
gate()
"""


def race(start: Start, output: OutputDir) -> list[dict[str, Any]]:
    """Lets 20 processes have at the lock at once; the winner holds it until all others were refused."""
    entrance, opened = os.pipe()
    processes = [start(CONTENDING, output.path, f"sft-{number}", gate=entrance) for number in range(20)]
    os.close(entrance)
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    os.close(opened)
    told = [json.loads(process.stdout.readline()) for process in processes]
    for process in processes:
        process.kill()
    return told


@pytest.mark.parametrize("made", [False, True], ids=["new folder", "folder of an earlier run"])
def test_one_of_many_gets_the_folder_and_the_others_are_told_who_has_it(
    made: bool, start: Start, output: OutputDir
) -> None:
    if made:
        output.path.mkdir(parents=True)
        output.lock_file.write_text('{"run": "earlier", "pid": 1, "since": "2020-01-01 00:00:00"}')

    told = race(start, output)

    (winner,) = [each for each in told if "run" in each]
    losers = [each for each in told if "busy" in each]
    assert len(losers) == 19
    for loser in losers:
        assert str(output.path) in loser["busy"]
        assert re.search(
            rf"{winner['run']} \(pid {winner['pid']}, since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\)", loser["busy"]
        )
        assert f"kill {winner['pid']}" in loser["fix"]
        assert loser["exit"] == 3


def test_the_lock_of_a_killed_run_is_free_at_once(start: Start, output: OutputDir) -> None:
    holder = start(HOLDING, output.path, "sft-1")
    assert holder.stdout.readline() == "ready\n"
    assert is_locked(output)
    with pytest.raises(BusyError, match=rf"sft-1 \(pid {holder.pid}, since "):
        FolderLock.acquire(output, "sft-2")

    holder.send_signal(signal.SIGKILL)
    holder.wait()

    assert not is_locked(output)
    lock = FolderLock.acquire(output, "sft-2")
    assert read_json(output.lock_file)["run"] == "sft-2"
    lock.abandon()


def test_who_holds_a_folder_is_told_with_its_last_checkpoint(output: OutputDir) -> None:
    lock = FolderLock.acquire(output, "sft-1")
    output.checkpoint(41).mkdir(parents=True)

    with pytest.raises(BusyError, match="last checkpoint at step 41") as refused:
        FolderLock.acquire(output, "sft-2")

    assert refused.value.exit_code == 3
    lock.abandon()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": null}', b'{"pid": "x"}', b'{"run": 1}', b"\xff"])
def test_a_holder_that_does_not_say_who_it_is_still_holds(content: bytes, output: OutputDir) -> None:
    output.path.mkdir(parents=True)
    output.lock_file.write_bytes(content)
    with output.lock_file.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)

        with pytest.raises(BusyError) as refused:
            FolderLock.acquire(output, "sft-2")

    assert str(output.path) in str(refused.value)
    assert "kill 0" not in str(refused.value)  # which would end every process of the reader's own shell


def test_a_folder_that_is_free_is_not_locked(output: OutputDir) -> None:
    assert not is_locked(output)
    lock = FolderLock.acquire(output, "sft-1")
    assert is_locked(output)

    lock.abandon()

    assert not is_locked(output)


ASKING = """
output = rundir.OutputDir(Path(sys.argv[1]))
print("asking", flush=True)
while True:
    rundir.is_locked(output)
"""


def test_asking_whether_a_folder_is_locked_hinders_nobody(start: Start, output: OutputDir) -> None:
    output.path.mkdir(parents=True)
    output.lock_file.touch()
    asking = start(ASKING, output.path)
    assert asking.stdout.readline() == "asking\n"

    for number in range(300):
        FolderLock.acquire(output, f"sft-{number}").abandon()

    assert asking.poll() is None


TAKING_TURNS = """
path, inside = sys.argv[1:]
gate()
taken = 0
for number in range(200):
    try:
        lock = rundir.FolderLock.acquire(rundir.OutputDir(Path(path)), "sft")
    except BusyError:
        continue
    os.close(os.open(inside, os.O_CREAT | os.O_EXCL))  # fails where another is inside
    os.unlink(inside)
    lock.abandon()
    taken += 1
print(taken)
"""


def test_no_two_runs_are_in_a_folder_while_others_come_and_go(
    together: Together, output: OutputDir, tmp_path: Path
) -> None:
    output.path.parent.mkdir()

    taken = together(TAKING_TURNS, [[output.path, tmp_path / "inside"]] * 4)

    assert sum(map(int, taken)) > 4
    assert not is_locked(output)


# --- giving it back


def test_abandoning_removes_the_folders_that_were_made(output: OutputDir, tmp_path: Path) -> None:
    FolderLock.acquire(output, "sft-1").abandon()

    assert list(tmp_path.iterdir()) == []


def test_abandoning_keeps_what_is_not_empty(output: OutputDir, tmp_path: Path) -> None:
    lock = FolderLock.acquire(output, "sft-1")
    (tmp_path / "model_save" / "other").mkdir()

    lock.abandon()

    assert os.listdir(tmp_path / "model_save") == ["other"]


def test_abandoning_keeps_what_the_run_wrote(output: OutputDir) -> None:
    lock = FolderLock.acquire(output, "sft-1")
    (output.path / "note.txt").write_text("kept")

    lock.abandon()

    assert files(output.path) == ["note.txt"]
    assert not is_locked(output)


def test_abandoning_keeps_a_folder_that_was_there_before(output: OutputDir) -> None:
    output.path.mkdir(parents=True)

    FolderLock.acquire(output, "sft-1").abandon()

    assert output.path.is_dir()


def test_a_folder_that_vanishes_while_it_is_taken_is_made_again(output: OutputDir, monkeypatch: Patch) -> None:
    """As it does where another run gives the folder up at that moment."""
    real, vanished = os.open, list[Path]()

    def opening(path: Any, *args: Any, **kwargs: Any) -> int:
        if path == output.lock_file and not vanished:
            vanished.append(path)
            output.path.rmdir()
        return real(path, *args, **kwargs)

    monkeypatch.setattr("engine.contract.rundir.os.open", opening)
    lock = FolderLock.acquire(output, "sft-1")

    assert vanished
    assert read_json(output.lock_file)["run"] == "sft-1"
    lock.abandon()


@pytest.mark.parametrize("again", [False, True], ids=["gone", "made again"])
def test_a_lock_on_a_file_that_another_run_removed_counts_for_nothing(
    again: bool, output: OutputDir, monkeypatch: Patch
) -> None:
    real, removed = fcntl.flock, list[Path]()

    def locking(fd: int, operation: int) -> None:
        if not removed:
            removed.append(output.lock_file)
            output.lock_file.unlink()
            if again:
                output.lock_file.touch()
        real(fd, operation)

    monkeypatch.setattr("engine.contract.rundir.fcntl.flock", locking)
    lock = FolderLock.acquire(output, "sft-1")

    assert removed
    with pytest.raises(BusyError, match="sft-1"):
        FolderLock.acquire(output, "sft-2")
    lock.abandon()


# --- folders that cannot be locked


def test_a_file_in_place_of_the_folder_is_named(output: OutputDir) -> None:
    output.path.parent.mkdir()
    output.path.touch()

    with pytest.raises(InputError, match=re.escape(str(output.path))) as refused:
        FolderLock.acquire(output, "sft-1")

    assert refused.value.message.code == "folder_unwritable"
    assert "--output_dir" in refused.value.message.fix()
    assert not isinstance(refused.value, BusyError)


def test_a_full_disk_is_named_and_leaves_the_folder_free(output: OutputDir, monkeypatch: Patch) -> None:
    def full(*_args: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("engine.contract.rundir.os.pwrite", full)
    with pytest.raises(InputError, match="No space left on device"):
        FolderLock.acquire(output, "sft-1")

    assert not is_locked(output)


# --- checkpoints


def test_checkpoints_are_told_newest_first_and_stray_names_are_passed_over(output: OutputDir) -> None:
    stray = ["frozen", ".tmp-9-123", "step-9", "step-000000009", "step-0000000x", "Step-00000009", "step-00000009.bak"]
    for name in [*stray, "step-00000009 ", "step-００００００３１", "step-٠٠٠٠٠٠٣٢", "step-00000009\n", "中文"]:
        (output.checkpoints / name).mkdir(parents=True)
    for step in (2, 123, 41):
        output.checkpoint(step).mkdir()

    assert output.checkpoint_steps() == [123, 41, 2]
    assert output.checkpoint(123).name == "step-00000123"


def test_there_are_no_checkpoints_where_there_is_no_folder(output: OutputDir) -> None:
    assert output.checkpoint_steps() == []

    output.path.mkdir(parents=True)
    output.checkpoints.touch()

    assert output.checkpoint_steps() == []


# --- what an earlier run left


def test_an_unfinished_run_is_not_lost_unawares(output: OutputDir) -> None:
    left_behind(output, "sft-1")

    with pytest.raises(InputError) as refused:
        refuse_unfinished(output, resume_option="GO ON", fresh_option="ANEW")

    text = str(refused.value)
    assert all(part in text for part in (str(output.path), "sft-1", "step 7 of 9", "GO ON", "ANEW"))


def test_a_finished_run_or_one_without_a_checkpoint_is_in_nobodys_way(output: OutputDir) -> None:
    def check() -> None:
        refuse_unfinished(output, resume_option="GO ON", fresh_option="ANEW")

    check()
    left_behind(output, "sft-1")
    write_json(output.owner_file, {**output.owner(), "finished": True})
    check()
    output.owner_file.unlink()
    check()


def test_there_is_nothing_to_set_aside_in_an_empty_folder(output: OutputDir) -> None:
    assert output.set_aside() is None
    output.path.mkdir(parents=True)

    assert output.set_aside() is None
    assert os.listdir(output.path) == []


def test_setting_aside_moves_all_that_the_run_left(output: OutputDir) -> None:
    lock = FolderLock.acquire(output, "sft-2")
    before = left_behind(output, "sft-1")
    size = sum((output.path / name).stat().st_size for name in before if name != ".lock")

    moved = output.set_aside()

    assert moved == (output.path / "earlier" / "sft-1", size)
    assert files(moved[0]) == [name for name in before if name != ".lock"]
    assert sorted(os.listdir(output.path)) == [".lock", "earlier"]
    assert output.checkpoint_steps() == []
    assert output.owner() == {}
    assert output.set_aside() is None
    lock.abandon()


def test_a_part_of_what_a_run_left_is_set_aside_too(output: OutputDir) -> None:
    output.checkpoint(7).mkdir(parents=True)
    (output.checkpoint(7) / "model.safetensors").write_bytes(b"m" * 100)

    assert output.set_aside() == (output.path / "earlier" / "unnamed", 100)


def test_earlier_runs_are_kept_apart(output: OutputDir) -> None:
    places = []
    for number in range(4):
        left_behind(output, "sft-1", step=number)
        moved = output.set_aside()
        assert moved is not None
        places.append(moved[0])

    assert len(set(places)) == 4
    for number, place in enumerate(places):
        assert place.parent == output.path / "earlier"
        assert OutputDir(place).checkpoint_steps() == [number]


HOSTILE = [
    "..",
    ".",
    "...",
    "../../x",
    "/etc/x",
    "a/b",
    "",
    " ",
    "x" * 300,
    "长" * 100,
    "\x1b[31m",
    "\u202e",
    "a\nb",
    "-rf",
]


@pytest.mark.parametrize("run", [*HOSTILE, None, 5, ["a"], {"a": 1}], ids=ascii_start)
def test_no_name_of_a_run_leads_out_of_the_folder(run: Any, output: OutputDir, tmp_path: Path) -> None:
    places = []
    for step in (1, 2):
        before = left_behind(output, "sft-1", step)
        write_json(output.owner_file, {"run": run})
        moved = output.set_aside()
        assert moved is not None
        places.append(moved[0])
        assert files(moved[0]) == [name for name in before if not name.startswith("earlier")]

    assert places[0] != places[1]
    assert {place.resolve().parent for place in places} == {(output.path / "earlier").resolve()}
    assert os.listdir(output.path) == ["earlier"]
    assert os.listdir(tmp_path) == ["model_save"]
    assert os.listdir(tmp_path / "model_save") == ["sft"]


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b'{"run":'])
def test_an_owner_that_cannot_be_read_is_none(content: bytes, output: OutputDir) -> None:
    left_behind(output, "sft-1")
    output.owner_file.write_bytes(content)

    assert output.owner() == {}
    refuse_unfinished(output, resume_option="GO ON", fresh_option="ANEW")
    moved = output.set_aside()
    assert moved is not None
    assert moved[0].name == "unnamed"
