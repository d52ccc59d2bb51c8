"""The guide's own command: ranks that accelerate's launcher started, and that lose their launcher."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine.training import checkpoint
from tests.faults.runs_with_faults import ROOT, Runs
from tests.faults.scenarios import ScenarioTable
from tests.processes import LIMIT, kill_tree, options, until

SWITCHES = ["--is_finetune=True", "--use_small_config=True"]


@pytest.fixture
def one(tmp_path: Path, tiny_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Runs]:
    """A folder with the guide's script in it."""
    shutil.copy(ROOT / "train_low_mem.py", tmp_path)
    one = Runs(tmp_path, {**tiny_settings, "gradient_accumulation_steps": 4, "epochs": 6}, monkeypatch)
    yield one
    for process in ranks(one):
        process.kill()


def launched(one: Runs, *more: str, **settings: Any) -> "subprocess.Popen[bytes]":
    """Two ranks on the CPU under accelerate's launcher."""
    values = {**one.settings, "output_dir": str(one.output.path), **settings}
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    command = [*launch, "--main_process_port", "0", "train_low_mem.py", "train", *SWITCHES, *more, *options(values)]
    env = {**os.environ, "ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (one.folder / "output").open("ab") as output:
        return subprocess.Popen(
            command, cwd=one.folder, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )


def ranks(one: Runs) -> list[psutil.Process]:
    """The trainers in the folder, no matter which process is their parent by now."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        command = process.info["cmdline"] or []
        if process.info["cwd"] == str(one.folder) and "train_low_mem.py" in command[-50:] and "launch" not in command:
            found.append(process)
    return [process for process in found if "accelerate.commands.launch" not in process.info["cmdline"]]


@pytest.mark.slow
def test_ranks_that_lose_their_launcher_save_and_leave(one: Runs, table: ScenarioTable) -> None:
    launcher = launched(one, save_steps=1000, epochs=2000)
    try:
        until(one.trains(1, 3), LIMIT)
        launcher.send_signal(signal.SIGKILL)
        launcher.wait(LIMIT)
        until(lambda: not ranks(one), LIMIT)
        end = one.look().state.ended
        assert end is not None
        step = one.output.checkpoint_steps()[0]
        lost = end.reason != "orphaned" or step != max(one.steps())
        table.add("kill -9 of the launcher", 1, lost)
        assert not lost
        checkpoint.verify(one.output.checkpoint(step))
    finally:
        kill_tree(launcher)
    again = launched(one, "--is_keep_training=True", save_steps=1000, epochs=2000)
    try:
        until(one.trains(2, 2), LIMIT)
        one.run_dir.request_stop()
        again.wait(LIMIT)  # with 1 where a rank left an evaluation first: that is how the launcher ends the other
    finally:
        kill_tree(again)
    end = one.look().state.ended
    assert end is not None
    assert (end.reason, end.exit_code) == ("stopped", 0)
    one.steps()  # what was repeated is what it was
