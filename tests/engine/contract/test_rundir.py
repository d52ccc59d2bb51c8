"""Folders of runs: each run its own, nothing lost, nothing half written."""

import errno
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.contract.config import RunConfig, to_json
from engine.contract.locks import FolderLock
from engine.contract.messages import InputError
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir, create_run_dir
from tests.engine.contract.conftest import TEXTS, ascii_start

Together = Callable[..., list[str]]


def record(**values: Any) -> RunRecord:
    """The record of a run."""
    return RunRecord(run="sft-1", preset="sft", job="train", config=to_json(RunConfig()), **values)


CREATING = """
logs, preset = sys.argv[1:]
gate()
print(rundir.create_run_dir(Path(logs), preset).path)
"""


def test_runs_started_at_once_get_separate_folders(together: Together, tmp_path: Path) -> None:
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
def test_a_dangling_link_is_reported_as_one(tmp_path: Path, target: str) -> None:
    (tmp_path / "logs").symlink_to(target)
    for opened in (
        lambda: create_run_dir(tmp_path / "logs", "sft"),
        lambda: FolderLock.acquire(tmp_path / "logs", "", tmp_path),
    ):
        with pytest.raises(InputError) as refused:
            opened()
        assert f"logs is a link to {target}, which does not exist" in refused.value.message.what()
        assert f"指向 {target} 的链接" in refused.value.message.what("zh")


def test_a_file_in_place_of_the_logs_is_reported(tmp_path: Path) -> None:
    (tmp_path / "logs").touch()

    with pytest.raises(InputError, match=re.escape(str(tmp_path / "logs"))) as refused:
        create_run_dir(tmp_path / "logs", "sft")

    assert refused.value.message.code == "folder_unwritable"


def test_a_stop_is_requested_by_a_file(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    assert not run_dir.stop_request.exists()

    run_dir.request_stop()
    run_dir.request_stop()

    assert run_dir.stop_request.exists()


@pytest.mark.parametrize("why", ["stop", "pause"])
def test_a_request_stands_until_it_is_taken_back(why: str, tmp_path: Path) -> None:
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
def test_an_empty_stop_file_is_a_stop(content: bytes, tmp_path: Path) -> None:
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


def test_a_missing_record_is_named(tmp_path: Path) -> None:
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
def test_an_invalid_record_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(content)

    with pytest.raises(InputError, match=re.escape("run.json")):
        RunDir(tmp_path).read_record()


def test_a_stop_can_be_requested_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_fd: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    run_dir = RunDir(tmp_path)
    run_dir.request_stop()
    assert run_dir.stop_requested() == "stop"
    with pytest.raises(OSError, match="No space left"):
        run_dir.request_stop("pause")
