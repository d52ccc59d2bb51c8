"""The lines that start a prepared run: what the launchers understand of them, and what the batch script does."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from engine.contract.launch import Launch
from sft_tui import launch_lines
from sft_tui.child_process import module_command

ENDPOINT = "first:29500"


def fake(folder: Path, name: str, body: str) -> None:
    program = folder / name
    program.write_text(f"#!/bin/bash\n{body}\n")
    program.chmod(0o755)


def test_torchrun_gets_the_folder_alone_and_the_same_words_everywhere() -> None:
    from torch.distributed.run import get_args_parser

    words = launch_lines.torchrun("logs/sft-1", "sft-1", Launch("torchrun", 2, 2, ENDPOINT))
    found = get_args_parser().parse_args(words[1:])
    assert (found.nnodes, found.nproc_per_node, found.rdzv_endpoint, found.max_restarts) == ("2", "2", ENDPOINT, 0)
    assert found.no_python
    assert [found.training_script, *found.training_script_args] == module_command("engine.train", "logs/sft-1")


def test_accelerate_gets_the_machines_and_where_they_meet() -> None:
    from accelerate.commands.launch import launch_command_parser

    words = launch_lines.accelerate("logs/sft-1", Launch("accelerate", 2, 2, ENDPOINT))
    found = launch_command_parser().parse_args(words[2:])
    assert (found.num_machines, found.num_processes, found.machine_rank) == (2, 4, 0)
    assert (found.main_process_ip, found.main_process_port, found.multi_gpu) == ("first", 29500, True)
    assert [found.training_script, *found.training_script_args] == module_command("engine.train", "logs/sft-1")


def test_a_run_without_gpus_stays_on_the_cpu() -> None:
    assert launch_lines.environment(Launch("torchrun", 2, 0, ENDPOINT))["ACCELERATE_USE_CPU"] == "true"
    assert "ACCELERATE_USE_CPU" not in launch_lines.environment(Launch("torchrun", 2, 1, ENDPOINT))


@pytest.mark.parametrize(
    ("state", "asked", "job", "requeued"),
    [
        ("stopped", False, "RUNNING", True),  # its time was over
        ("stopped", True, "RUNNING", False),  # a person stopped it
        ("stopped", False, "COMPLETING", False),  # the job was cancelled
        ("finished", False, "RUNNING", False),
    ],
)
def test_a_job_is_queued_again_only_when_its_time_was_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, asked: bool, job: str, requeued: bool
) -> None:
    folder, programs = tmp_path / "a project" / "logs" / "sft-1", tmp_path / "programs"
    programs.mkdir()
    (folder / "control").mkdir(parents=True)
    fake(programs, "srun", 'echo "srun $@"')
    fake(programs, "squeue", f"echo {job}")
    fake(programs, "scontrol", 'echo "scontrol $@"')
    fake(programs, "python", f'case "$*" in *json.load*) cat ;; *) echo {state}; echo "python $@" >&2 ;; esac')
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    if asked:
        (folder / "control" / "stop").touch()
    project = str(tmp_path / "a project")
    script = launch_lines.batch_script("logs/sft-1", project, "sft-1", Launch("slurm", 2, 2))
    env = {"PATH": f"{programs}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1"}
    result = subprocess.run(["bash"], input=script, text=True, env=env, capture_output=True, timeout=60, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    said = (folder / "trainer.log").read_text()
    assert f"srun --kill-on-bad-exit=1 {shlex.join(module_command('engine.train', 'logs/sft-1'))}" in said
    assert "python -P -m sft_tui resume ./logs/sft-1" in said
    assert ("scontrol requeue 7" in said) == requeued


def test_the_script_asks_slurm_for_machines_gpus_and_a_signal_in_time() -> None:
    script = launch_lines.batch_script("logs/sft-1", "/data/project", "sft-1", Launch("slurm", 3, 2))
    asked = [line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH")]
    expected = ["job-name=sft-1", "nodes=3", "ntasks-per-node=2", "gpus-per-node=2", "signal=TERM@120", "requeue"]
    assert asked == expected


def test_a_foreign_name_adds_no_line_to_the_batch_script() -> None:
    hostile = "x\n#SBATCH --wrap=id\n$(touch here)"
    script = launch_lines.batch_script("logs/sft-1", "/data/project", hostile, Launch("slurm", 2, 1))
    sound = launch_lines.batch_script("logs/sft-1", "/data/project", "sft-1", Launch("slurm", 2, 1))
    assert len(script.splitlines()) == len(sound.splitlines())
    assert "touch here" not in script
    assert [line for line in script.splitlines() if "wrap" in line] == [
        "#SBATCH --job-name=x__SBATCH_--wrap_id___touch_here_"
    ]
