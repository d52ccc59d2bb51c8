"""Many starts into one folder at once: exactly one gets through, and the others say who holds it."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.contract.locks import LOCK_NAME, FolderLock, holder_of, is_locked
from engine.contract.messages import BusyError, InputError
from sft_tui import remembered, starting
from tests.faults.runs_with_faults import ROOT, Runs
from tests.faults.scenarios import ScenarioTable
from tests.processes import LIMIT, SFT_TUI, end_runs, options, until


@pytest.fixture
def one(tmp_path: Path, tiny_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Runs]:
    """A folder for one run."""
    yield Runs(tmp_path, {**tiny_settings, "epochs": 2000}, monkeypatch)
    end_runs(tmp_path)


# Each checks its files before it asks for the folder: of fifty that alone is two minutes of one core.
@pytest.mark.parametrize("number_of_starts", [4, pytest.param(50, marks=pytest.mark.slow)])
def test_of_many_starts_at_once_exactly_one_wins(one: Runs, table: ScenarioTable, number_of_starts: int) -> None:
    command = [*SFT_TUI, "run", "sft-small", "--detach", *options({**one.settings, "output_dir": str(one.output.path)})]
    env = {**os.environ, "LC_ALL": "C.UTF-8", "PYTHONPATH": str(ROOT)}
    starts = []
    for number in range(number_of_starts):
        with (one.folder / f"{number}.err").open("wb") as err:
            starts.append(
                subprocess.Popen(command, cwd=one.folder, env=env, stdin=subprocess.DEVNULL, stdout=err, stderr=err)
            )
    codes = [start.wait(LIMIT) for start in starts]
    table.add(f"{number_of_starts} starts at once", number_of_starts, abs(codes.count(0) - 1))
    assert sorted(codes) == [0] + [3] * (number_of_starts - 1)
    assert [path.name for path in (one.folder / "logs").iterdir() if path.is_dir()] == ["sft-small-1"]
    said = [(one.folder / f"{number}.err").read_text() for number, code in enumerate(codes) if code == 3]
    assert all("is in use by" in text for text in said)
    until(one.trains(1, 1), LIMIT)
    until(one.run_dir.plain_log.is_file, LIMIT)
    left = {path.name for path in (one.folder / "logs").iterdir()} - {remembered.FILE}
    assert left == {"sft-small-1", "sft-small-1.log"}
    again = subprocess.run(command, cwd=one.folder, env=env, capture_output=True, timeout=LIMIT, check=False)
    assert again.returncode == 3
    assert f"sft-small-1 (pid {one.process('supervisor').pid}, since 20" in again.stderr.decode()
    assert "at step" in again.stderr.decode()
    one.run_dir.request_stop()
    until(lambda: not one.look().alive, LIMIT)


def test_no_second_run_starts_when_lock_files_are_removed(one: Runs, table: ScenarioTable) -> None:
    """As `git clean` does. Its processes tell that it is alive, and it takes its locks again."""
    started = one.start()
    until(one.trains(1, 2), LIMIT)
    places = (one.output.path, one.run_dir.path)
    with table.scenario("the lock files of a run at work are removed") as tries, tries.one("git clean"):
        for place in places:
            (place / LOCK_NAME).unlink()
        record = starting.plan_run("sft-small", {**one.settings, "output_dir": str(one.output.path)}, fresh=True)
        with pytest.raises(BusyError, match="sft-small-1"):
            starting.start(one.folder / "logs", record)
        until(lambda: all(is_locked(place) for place in places), LIMIT)
        until(lambda: {holder_of(place).run for place in places} == {"sft-small-1"}, LIMIT)
        one.run_dir.request_stop()
        until(lambda: not one.look().alive, LIMIT)
        started.supervisor.wait(LIMIT)
        assert one.look().status == "stopped"
        assert [path.name for path in (one.folder / "logs").iterdir() if path.is_dir()] == ["sft-small-1"]


def test_a_run_that_lost_its_folder_saves_nothing_more(one: Runs, table: ScenarioTable) -> None:
    """The lock file was removed before the run owned the folder, so that nothing showed it."""
    started = one.start(save_steps=100_000)
    until(one.trains(1, 2), LIMIT)
    with table.scenario("another run takes the folder over") as tries, tries.one("its lock file was removed"):
        one.output.owner_file.unlink()
        lock = None
        while lock is None:  # the run takes its lock again every two seconds
            (one.output.path / LOCK_NAME).unlink(missing_ok=True)
            with contextlib.suppress(InputError):
                lock = FolderLock.acquire(one.output.path, "other", one.folder / "other")
        until(lambda: not one.look().alive, 60)  # by itself, where it would save at an epoch's end
        started.supervisor.wait(LIMIT)
        end = one.look().state.ended
        assert end is not None
        assert (end.reason, end.message.code) == ("failed", "ended_folder_lost")
        assert "other took the folder over" in end.message.what()
        assert max(one.output.checkpoint_steps(), default=0) < max(one.steps())
        lock.release()
