"""The supervisor certifies every end, and shields the trainer from the environment it is started in."""

import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.contract import events
from engine.contract.config import to_json
from engine.contract.messages import Message
from engine.contract.presets import preset
from engine.contract.rundir import RunDir, RunRecord, create_run_dir
from engine.contract.stream import EventReader, EventWriter
from sft_tui import supervisor
from sft_tui.supervisor import Supervisor, gpu_count, on_cpu

LIMIT = 20.0  # seconds for a process that does nothing but end

Started = Callable[[str], tuple[Supervisor, RunDir]]


@pytest.fixture
def run_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Started:
    """Starts a Python program in place of the trainer."""

    def start(program: str) -> tuple[Supervisor, RunDir]:
        monkeypatch.setattr(supervisor, "_command", lambda _run_dir, _record: [sys.executable, "-c", program])
        run_dir = create_run_dir(tmp_path, "sft-small")
        return Supervisor(run_dir, record_of()), run_dir

    return start


def record_of(processes: int = 1) -> RunRecord:
    config = to_json(preset("sft-small").config)
    return RunRecord("sft-small-1", "sft-small", "train", config, processes=processes, resume_option="go on")


def certified(one: Supervisor, run_dir: RunDir) -> events.RunEnded:
    until(one.ended)
    one.certify()
    one.certify()  # a second time changes nothing
    (end,) = [r.event for r in EventReader(run_dir.events).poll() if isinstance(r.event, events.RunEnded)]
    return end


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_killed_trainer_is_certified_with_the_signal(run_program: Started) -> None:
    one, run_dir = run_program("import time; time.sleep(60)")
    one.signal(signal.SIGKILL)
    end = certified(one, run_dir)
    assert (end.reason, end.exit_code) == ("killed", 1)
    assert "SIGKILL" in end.message.what()
    assert "go on" in end.message.fix()


def test_a_trainer_that_vanished_is_certified_with_its_last_words(run_program: Started) -> None:
    one, run_dir = run_program("import sys; print('no space for my heap', file=sys.stderr); sys.exit(7)")
    end = certified(one, run_dir)
    assert (end.reason, end.exit_code) == ("failed", 1)
    assert "exit code 7" in end.message.what()
    assert "no space for my heap" in end.message.what()


def test_a_trainer_that_ended_in_words_has_the_last_one(run_program: Started) -> None:
    one, run_dir = run_program("pass")
    EventWriter(run_dir.events, "rank0", 1).write(events.RunEnded("stopped", 0, Message("ended_finished")))
    assert certified(one, run_dir).reason == "stopped"


def test_the_trainer_has_a_session_of_its_own_and_no_input(run_program: Started) -> None:
    one, run_dir = run_program("import os, sys; print(os.getsid(0) == os.getpid(), sys.stdin.read() == '')")
    until(one.ended)
    assert run_dir.trainer_output.read_text() == "True True\n"


def test_a_users_accelerate_settings_do_not_reach_the_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    env = supervisor._environment(record_of(processes=2))
    assert "ACCELERATE_MIXED_PRECISION" not in env
    assert env["ACCELERATE_USE_CPU"] == "true"
    assert int(env["OMP_NUM_THREADS"]) >= 1


def test_two_processes_are_launched_with_a_configuration_of_our_own(tmp_path: Path) -> None:
    command = supervisor._command(RunDir(tmp_path), record_of(processes=2))
    config = Path(command[command.index("--config_file") + 1])
    assert config.parent == tmp_path
    assert "num_processes: 2" in config.read_text()
    assert command[command.index("--main_process_port") + 1] == "0"


@pytest.mark.parametrize("visible", ["", "-1"])
def test_hidden_gpus_do_not_count(monkeypatch: pytest.MonkeyPatch, visible: str) -> None:
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu_count() == 0
    assert on_cpu(2)
    assert on_cpu(1) is False  # it may find a device that NVML does not know


def test_the_cpu_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "gpu_count", lambda: 2)
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    assert not on_cpu(2)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert on_cpu(1)
