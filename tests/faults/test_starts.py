"""Many starts into one folder at once: exactly one gets through, and the others say who holds it."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.ledger import Ledger
from tests.faults.runs_with_faults import ROOT, Runs
from tests.processes import SFT_TUI, end_runs, options, until

STARTS = 50


@pytest.fixture
def one(tmp_path: Path, tiny_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Runs]:
    """A folder for one run."""
    yield Runs(tmp_path, {**tiny_settings, "epochs": 2000}, monkeypatch)
    end_runs(tmp_path)


def test_of_fifty_starts_at_once_exactly_one_wins(one: Runs, ledger: Ledger) -> None:
    command = [*SFT_TUI, "run", "sft-small", "--detach", *options({**one.settings, "output_dir": str(one.output.path)})]
    env = {**os.environ, "LC_ALL": "C.UTF-8", "PYTHONPATH": str(ROOT)}
    starts = []
    for number in range(STARTS):
        with (one.folder / f"{number}.err").open("wb") as err:
            starts.append(
                subprocess.Popen(command, cwd=one.folder, env=env, stdin=subprocess.DEVNULL, stdout=err, stderr=err)
            )
    codes = [start.wait(120) for start in starts]
    ledger.add("50 starts at once", STARTS, abs(codes.count(0) - 1))
    assert sorted(codes) == [0] + [3] * (STARTS - 1)
    assert [path.name for path in (one.folder / "logs").iterdir()] == ["sft-small-1"]
    said = [(one.folder / f"{number}.err").read_text() for number, code in enumerate(codes) if code == 3]
    assert all("is in use by" in text for text in said)
    until(one.trains(1, 1), 60)
    again = subprocess.run(command, cwd=one.folder, env=env, capture_output=True, timeout=60, check=False)
    assert again.returncode == 3
    assert f"sft-small-1 (pid {one.process('supervisor').pid}, since 20" in again.stderr.decode()
    assert "at step" in again.stderr.decode()
    one.run_dir.request_stop()
    until(lambda: not one.look().alive, 60)
