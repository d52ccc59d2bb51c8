"""A run that a launcher will start: prepared, looked at, resumed, and never started by ourselves."""

import socket
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from engine.contract import events
from engine.contract.config import RunConfig
from engine.contract.launch import Launch
from engine.contract.messages import InputError
from engine.contract.rundir import RunDir
from sft_tui import runs, starting
from sft_tui.cli import main
from sft_tui.preflight import request
from sft_tui.rehearsal import Rehearsal
from tests.processes import options


def prepared(settings: dict[str, Any], *words: str) -> Result:
    return CliRunner().invoke(main.cli, ["prepare", "sft-small", *words, *options(settings)])


def test_a_prepared_run_has_its_folder_and_is_resumed_by_the_same_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_settings: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    found = prepared(tiny_settings, "--nodes", "2", "--gpus", "0", "--endpoint", "first:29501")
    assert found.exit_code == 0, found.output
    first, second = found.stdout.splitlines()
    assert "--nnodes=2 --nproc-per-node=1 --max-restarts=0 --master-addr=first --master-port=29501" in first
    assert second == first.replace("--node-rank=0", "--node-rank=1") != first
    assert first.endswith("-P -m engine.train logs/sft-small-1")
    assert "first one on first," in found.stderr
    assert "of gradients a step" in found.stderr
    run = runs.read_run(RunDir(Path("logs/sft-small-1")))
    assert (run.status, run.record.processes) == ("prepared", 2)
    assert run.record.launch == Launch("torchrun", 2, 0, "first:29501")
    with pytest.raises(InputError, match="prepared"):
        runs.stop(run)
    run.run_dir.request_stop()  # while its machines waited for each other
    again = CliRunner().invoke(main.cli, ["resume", "sft-small-1"])
    assert (again.exit_code, again.stdout) == (0, found.stdout)
    assert not run.run_dir.stop_request.exists()  # or else it would stop before it begins
    record = run.run_dir.read_record()
    assert (record.resume, record.id) == (False, run.record.id)  # it has not begun
    more = CliRunner().invoke(main.cli, ["resume", "sft-small-1", "--epochs", "3"])
    assert (more.exit_code, more.stdout, run.run_dir.read_record().resume) == (0, found.stdout, True)
    with pytest.raises(InputError, match="launcher"):
        starting.start(Path("logs"), record)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "accelerate"])
def test_the_printed_lines_train_the_run_on_two_machines_that_are_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_settings: dict[str, Any], launcher: str
) -> None:
    monkeypatch.chdir(tmp_path)
    short = {**tiny_settings, "epochs": 1}
    with socket.create_server(("localhost", 0)) as free:
        endpoint = f"localhost:{free.getsockname()[1]}"
    words = ("--nodes", "2", "--gpus", "0", "--endpoint", endpoint, "--launcher", launcher)
    lines = prepared(short, *words).stdout.splitlines()
    machines = [subprocess.Popen(["bash", "-c", line]) for line in lines]
    try:
        assert [machine.wait(timeout=300) for machine in machines] == [0, 0]
    finally:
        for machine in machines:
            machine.kill()
    assert runs.read_run(RunDir(Path("logs/sft-small-1"))).status == "finished"


def test_a_rehearsed_budget_is_that_of_the_prepared_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_settings: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    asked: list[int] = []

    def applied(_logs: Path, config: RunConfig, processes: int, _given: Any) -> tuple[RunConfig, Rehearsal]:
        asked.append(processes)
        found = events.Rehearsed(77, config.micro_batch_tokens, 0, [1], 1, [0], 1, [1.0] * 3, [1.0] * 3, 1.0, 1)
        return replace(config, micro_batch_tokens=77), Rehearsal(0.0, found)

    monkeypatch.setattr(request, "applied", applied)
    settings = {name: value for name, value in tiny_settings.items() if name != "micro_batch_tokens"}
    found = prepared(settings, "--nodes", "2", "--gpus", "0", "--endpoint", "first")
    assert found.exit_code == 0, found.output
    assert RunDir(Path("logs/sft-small-1")).read_record().config["micro_batch_tokens"] == 77
    assert set(asked) == {1}  # on each machine
    assert "77" in found.stderr


def test_slurm_gets_a_batch_script_in_the_folder_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_settings: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    found = prepared(tiny_settings, "--nodes", "2", "--gpus", "2", "--launcher", "slurm")
    assert (found.exit_code, found.stdout) == (0, "sbatch logs/sft-small-1/job.sbatch\n"), found.output
    assert "Each GPU needs" in found.stderr
    assert "2 machines with 2 processes each on 2 GPUs" in found.stderr
    script = Path("logs/sft-small-1/job.sbatch")
    assert "#SBATCH --gpus-per-node=2" in script.read_text()
    assert script in RunDir(Path("logs/sft-small-1")).files()


def test_a_run_that_lacks_a_file_is_refused_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert isinstance(prepared({}, "--nodes", "2").exception, InputError)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [("--launcher", "deepspeed"), ("--deepspeed", "zero.json")])
def test_deepspeed_is_refused_by_name_with_what_to_use(words: tuple[str, ...]) -> None:
    found = prepared({}, *words)
    assert found.exit_code == 2
    assert "DeepSpeed" in found.output
    assert "LoRA" in found.output


def test_the_number_of_processes_is_not_given_twice() -> None:
    found = prepared({"num_processes": 4}, "--nodes", "2")
    assert found.exit_code == 2
    assert "--nodes" in found.output


def test_of_many_machines_the_first_ones_line_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_settings: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    found = prepared(tiny_settings, "--nodes", "1001", "--gpus", "0", "--endpoint", "first", "--launcher", "accelerate")
    assert (found.exit_code, len(found.stdout.splitlines())) == (0, 1), found.output
    assert "put 1 to 1000 behind --machine_rank" in found.stderr
    assert RunDir(Path("logs/sft-small-1")).read_record().processes == 1001


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--nodes", "1000", "--gpus", "8", "--endpoint", "first"), "8000. The most that a run can have: 1024."),
        (("--nodes", "2", "--endpoint", "first:port"), "--endpoint first:port"),
        (("--nodes", "0"), "1<=x<=1024"),
        (("--nodes", "2", "--launcher", "slurm", "--endpoint", "first"), "leave it out"),
        (("--nodes", "2"), "This machine is called localhost"),
    ],
)
def test_machines_that_cannot_meet_are_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(socket, "gethostname", lambda: "localhost.localdomain")
    found = prepared({}, *words)
    assert (found.exit_code, said in found.output) == (2, True), found.output
    assert list(tmp_path.iterdir()) == []
