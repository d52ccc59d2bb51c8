"""A run that a launcher will start: prepared, looked at, resumed, and never started by ourselves."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from engine.contract.launch import Launch
from engine.contract.messages import InputError
from engine.contract.rundir import RunDir
from sft_tui import runs, starting
from sft_tui.cli import main
from tests.processes import options


def prepared(settings: dict[str, Any], *words: str) -> Result:
    return CliRunner().invoke(main.cli, ["prepare", "sft-small", *words, *options(settings)])


def test_a_prepared_run_has_its_folder_and_is_resumed_by_the_same_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_settings: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    found = prepared(tiny_settings, "--nodes", "2", "--gpus", "0", "--endpoint", "first:29501")
    assert found.exit_code == 0, found.output
    assert "--nnodes=2" in found.stdout
    assert "--rdzv-endpoint=first:29501" in found.stdout
    assert found.stdout.rstrip().endswith("-P -m engine.train logs/sft-small-1")
    assert "of gradients a step" in found.stderr
    run = runs.read_run(RunDir(Path("logs/sft-small-1")))
    assert (run.status, run.record.processes) == ("prepared", 2)
    assert run.record.launch == Launch("torchrun", 2, 0, "first:29501")
    with pytest.raises(InputError, match="prepared"):
        runs.stop(run)
    again = CliRunner().invoke(main.cli, ["resume", "sft-small-1"])
    assert (again.exit_code, again.stdout) == (0, found.stdout)
    record = run.run_dir.read_record()
    assert (record.resume, record.id) == (True, run.record.id)
    with pytest.raises(InputError, match="launcher"):
        starting.start(Path("logs"), record)


@pytest.mark.slow
def test_the_printed_line_trains_the_run_on_two_machines_that_are_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_settings: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    short = {**tiny_settings, "epochs": 1}
    line = prepared(short, "--nodes", "2", "--gpus", "0", "--endpoint", "localhost:29517").stdout
    machines = [subprocess.Popen(["bash", "-c", line]) for _ in range(2)]
    try:
        assert [machine.wait(timeout=300) for machine in machines] == [0, 0]
    finally:
        for machine in machines:
            machine.kill()
    assert runs.read_run(RunDir(Path("logs/sft-small-1"))).status == "finished"


def test_slurm_gets_a_batch_script_in_the_folder_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_settings: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    found = prepared(tiny_settings, "--nodes", "2", "--gpus", "2", "--launcher", "slurm", "--force")
    assert (found.exit_code, found.stdout) == (0, "sbatch logs/sft-small-1/job.sbatch\n"), found.output
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
