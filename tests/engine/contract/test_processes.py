"""Processes as files name them: one is the process that it was, or none."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.contract.processes import AttemptProcesses, ProcessId, boot_id, read_processes, write_processes
from engine.contract.rundir import RunDir
from tests.processes import until


def mine() -> ProcessId:
    """This process."""
    process = ProcessId.of(os.getpid())
    assert process is not None
    return process


def test_the_processes_of_an_attempt_are_read_back(tmp_path: Path) -> None:
    written = AttemptProcesses(3, mine(), [mine(), ProcessId()])

    write_processes(RunDir(tmp_path), written)

    assert read_processes(RunDir(tmp_path)) == written
    assert [rank.alive() for rank in written.ranks] == [True, False]


def test_an_older_file_names_unknown_processes_by_empty_objects(tmp_path: Path) -> None:
    rank = vars(mine())
    RunDir(tmp_path).processes.write_text(json.dumps({"attempt": 2, "supervisor": {}, "ranks": [{}, rank]}))

    assert read_processes(RunDir(tmp_path)) == AttemptProcesses(2, ProcessId(), [ProcessId(), mine()])


@pytest.mark.parametrize(
    "value",
    [
        [],
        {"attempt": -1},
        {"attempt": "2"},
        {"attempt": 2, "ranks": {}},
        {"attempt": 2, "ranks": [3]},
        {"attempt": 2, "supervisor": {"pid": -1}},
        {"attempt": 2, "supervisor": {"pid": 10**30}},
        {"attempt": 2, "supervisor": {"pid": 1, "boot": 5}},
        {"attempt": 2, "ranks": [{}] * 100_000},
    ],
    ids=lambda value: repr(value)[:60],
)
def test_invalid_processes_are_taken_for_none(tmp_path: Path, value: Any) -> None:
    RunDir(tmp_path).processes.write_text(json.dumps(value))

    assert read_processes(RunDir(tmp_path)) == AttemptProcesses()


def test_a_zombie_is_not_alive() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    one = ProcessId.of(process.pid)
    assert one is not None
    assert one.alive()

    process.kill()  # nobody has waited for it: it stays as a zombie

    until(lambda: not one.alive())
    assert ProcessId.of(process.pid) is None
    process.communicate()
    assert not one.alive()


def test_a_signature_of_another_boot_or_a_reused_pid_is_dead() -> None:
    mine = ProcessId.of(os.getpid())
    assert mine is not None
    assert mine.alive()
    assert mine.boot == boot_id() != ""

    assert not replace(mine, boot="another").alive()
    assert not replace(mine, start=str(int(mine.start) - 1)).alive()
    assert not replace(mine, start="").alive()
    assert not replace(mine, pid=1).alive()


def test_an_odd_program_name_does_not_hide_its_start_time(tmp_path: Path) -> None:
    """The kernel tells it unescaped, brackets, spaces and all."""
    program = tmp_path / "a) S 1 ("
    program.symlink_to(sys.executable)
    process = subprocess.Popen([program, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        one = ProcessId.of(process.pid)
        assert one is not None
        assert one.start.isdigit()
        assert one.alive()
    finally:
        process.kill()
        process.communicate()
