"""A disk that fills up under checkpoints or log: training continues, and reports what it could not do."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.contract import events
from engine.contract.durable import free_bytes
from engine.contract.events import Event
from engine.contract.stream import EventReader
from engine.training import checkpoint
from tests.faults.runs_with_faults import Runs
from tests.faults.scenarios import ScenarioTable
from tests.processes import LIMIT, end_runs, until

SIZE = "16m"
LONG: dict[str, Any] = {"epochs": 2000, "save_steps": 3, "keep_latest_n_ckp": 2, "bleu_rows": 1, "sample_rows": 0}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(place)], capture_output=True)
    if made.returncode:
        pytest.skip(f"NOT TESTED ON A FULL DISK: no file system may be mounted here: {made.stderr.decode().strip()}")
    yield place
    end_runs(tmp_path)
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(disk: Path) -> Path:
    """Takes all of its space, also what has become free since."""
    path = disk / "other"
    with path.open("ab", buffering=0) as file:
        chunk = bytes(4096)
        try:
            while file.write(chunk):
                pass
        except OSError:
            return path
    return path


def said(one: Runs, code: str) -> list[Event]:
    """Warnings of one kind."""
    records = EventReader(one.run_dir.events).poll()
    return [r.event for r in records if isinstance(r.event, events.Warning) and r.event.message.code == code]


def test_training_continues_on_a_full_disk(
    tmp_path: Path, disk: Path, tiny_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, table: ScenarioTable
) -> None:
    one = Runs(tmp_path, tiny_settings, monkeypatch)
    output = disk / "out"
    started = one.start(**LONG, output_dir=str(output))
    saved = Runs(disk, {}, monkeypatch).output
    until(lambda: len(saved.checkpoint_steps()) >= 2, LIMIT)
    other = fill(disk)
    until(lambda: fill(disk) == other and bool(said(one, "save_no_space")), LIMIT)  # a save that fails frees some
    untouched = saved.checkpoint_steps()
    sound = [step for step in untouched if checkpoint.verify(saved.checkpoint(step))]
    until(lambda: len(said(one, "save_no_space")) >= 3, LIMIT)  # it continues, and tries again
    message = said(one, "save_no_space")[-1]
    assert isinstance(message, events.Warning)
    assert str(output) in message.message.what()
    assert "GB free, and it needs" in message.message.what()
    assert saved.checkpoint_steps() == untouched == sound
    other.unlink()
    until(lambda: saved.checkpoint_steps()[0] > untouched[0], LIMIT)
    one.run_dir.request_stop()
    end = one.ended(started)
    assert (end.reason, end.exit_code) == ("stopped", 0)
    table.add("a full disk under the checkpoints", 1, 0)


def test_training_continues_while_its_log_is_on_a_full_disk(
    disk: Path, tiny_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, table: ScenarioTable
) -> None:
    one = Runs(disk, tiny_settings, monkeypatch)
    started = one.start(**LONG, output_dir=str(tmp_path / "out"))
    newest = Runs(tmp_path, {}, monkeypatch).output
    until(lambda: bool(newest.checkpoint_steps()), LIMIT)
    other = fill(disk)
    until(lambda: free_bytes(disk) < 4096, LIMIT)
    before = newest.checkpoint_steps()[0]
    until(lambda: newest.checkpoint_steps()[0] > before + 30, LIMIT)  # unseen by the log
    other.unlink()
    until(lambda: bool(said(one, "log_gap")), LIMIT)
    one.run_dir.request_stop()
    end = one.ended(started)
    assert (end.reason, end.exit_code) == ("stopped", 0)
    checkpoint.verify(newest.checkpoint(newest.checkpoint_steps()[0]))
    table.add("a full disk under the log", 1, 0)


def test_a_run_that_ends_with_a_full_log_is_certified(
    disk: Path, tiny_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, table: ScenarioTable
) -> None:
    one = Runs(disk, tiny_settings, monkeypatch)
    started = one.start(**LONG, output_dir=str(tmp_path / "out"))
    newest = Runs(tmp_path, {}, monkeypatch).output
    until(lambda: bool(newest.checkpoint_steps()), LIMIT)
    other = fill(disk)
    until(lambda: free_bytes(disk) < 4096, LIMIT)
    os.kill(started.supervisor.pid, 15)
    until(lambda: started.supervisor.poll() is not None, LIMIT)
    assert started.supervisor.returncode == 0
    other.unlink()
    checkpoint.verify(newest.checkpoint(newest.checkpoint_steps()[0]))
    end = one.look().state.ended
    assert end is not None
    table.add("a run that ends while its log is full", 1, 0)
