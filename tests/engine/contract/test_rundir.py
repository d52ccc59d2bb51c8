"""Folders of runs: each run its own, nothing lost, nothing half written."""

import errno
import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract.config import RunConfig, to_json
from engine.contract.locks import FolderLock
from engine.contract.messages import InputError
from engine.contract.rundir import (
    OutputDir,
    RunDir,
    RunRecord,
    create_run_dir,
    free_bytes,
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


@pytest.mark.parametrize("target", ["absent", "logs"])
def test_a_link_that_leads_to_nothing_is_told_as_what_it_is(tmp_path: Path, target: str) -> None:
    (tmp_path / "logs").symlink_to(target)
    for opened in (
        lambda: create_run_dir(tmp_path / "logs", "sft"),
        lambda: FolderLock.acquire(tmp_path / "logs", "", tmp_path),
    ):
        with pytest.raises(InputError) as refused:
            opened()
        assert f"logs is a link to {target}, which does not exist" in refused.value.message.what()
        assert f"指向 {target} 的链接" in refused.value.message.what("zh")


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


@pytest.mark.parametrize("why", ["stop", "pause"])
def test_what_a_run_was_asked_for_is_known_until_it_is_taken_back(why: str, tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    assert run_dir.stop_requested() == ""
    run_dir.clear_requests()

    run_dir.request_stop(why)
    run_dir.request_now()

    assert run_dir.stop_requested() == why
    assert run_dir.now_request.exists()
    run_dir.clear_requests()
    assert run_dir.stop_requested() == ""
    assert not run_dir.now_request.exists()


@pytest.mark.parametrize("content", [b"", b"\xff", b"pause\nmore"], ids=ascii_start)
def test_a_stop_file_that_says_nothing_is_a_stop(content: bytes, tmp_path: Path) -> None:
    """As a shell makes it with touch."""
    run_dir = RunDir(tmp_path)
    run_dir.request_stop()
    run_dir.stop_request.write_bytes(content)

    assert run_dir.stop_requested() == "stop"


# --- its record


@pytest.mark.parametrize("text", TEXTS)
def test_a_record_is_read_back_as_it_was_written(text: str, tmp_path: Path) -> None:
    resumed = {"resume": True, "force": True, "accepted": ["epochs", text], "resume_option": f"sft-tui {text}"}
    written = record(overrides={"seed": [1, 2]}, processes=2, **resumed)
    written = replace(written, config=to_json(replace(RunConfig(), train_file=text, seed=3)))

    RunDir(tmp_path).write_record(written)

    assert RunDir(tmp_path).read_record() == written
    assert RunDir(tmp_path).read_record().run_config() == replace(RunConfig(), train_file=text, seed=3)


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
    b'{"run": "a", "preset": "b", "job": "train", "config": {}, "accepted": "epochs"}',
    b"[" * 100_000,
    b'{"run": "a", "preset": "b", "job": "train", "config": {}}',
    b'{"run": "a", "preset": "b", "job": "train", "config": {"output_dir": 5}}',
    b'{"run": "a", "preset": "b", "job": "train", "config": {"output_dir": "a\\u0000b"}}',
    b'{"run": "a", "preset": "b", "job": "train", "config": {"output_dir": "o"}, "processes": 100000}',
    b'{"run": "a", "preset": "b", "job": "train", "config": {"output_dir": "o"}, "memory_limit": -1}',
]


@pytest.mark.parametrize("content", NO_RECORDS, ids=ascii_start)
def test_what_is_no_record_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(content)

    with pytest.raises(InputError, match=re.escape("run.json")):
        RunDir(tmp_path).read_record()


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
    lock = FolderLock.acquire(output.path, "sft-2", Path("logs/sft-2"))
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


def test_a_stop_is_asked_for_on_a_disk_that_takes_no_more_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_fd: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    run_dir = RunDir(tmp_path)
    run_dir.request_stop()
    assert run_dir.stop_requested() == "stop"
    with pytest.raises(OSError, match="No space left"):
        run_dir.request_stop("pause")


NO_OWNERS: list[Any] = [
    {"run": 5},
    {"steps_total": "many"},
    {"steps_total": -1},
    {"steps_total": 10**400},
    {"config": {"epochs": "3"}},
    {"config": {"output_dir": "a\0b"}},
    {"config": []},
    {"finished": 1},
    {"run_dir": ["/"]},
]


@pytest.mark.parametrize("change", NO_OWNERS, ids=repr)
def test_an_owner_file_with_a_value_that_cannot_be_names_no_owner(tmp_path: Path, change: dict[str, Any]) -> None:
    sound = {"run": "a-1", "run_dir": "logs/a-1", "steps_total": 9, "config": to_json(RunConfig()), "finished": False}
    output = OutputDir(tmp_path)
    write_json(output.owner_file, sound)
    assert output.owner() == sound

    write_json(output.owner_file, {**sound, **change})

    assert output.owner() == {}
