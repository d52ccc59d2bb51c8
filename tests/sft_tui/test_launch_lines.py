"""The lines that start a prepared run: what the launchers understand of them, and what the batch script does."""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine.contract.child_command import module_command
from engine.contract.launch import Launch
from sft_tui import launch_lines

ENDPOINT = "first:29500"
PAGE = Path(__file__).parents[2] / "docs" / "machines.md"


def fake(folder: Path, name: str, body: str) -> None:
    program = folder / name
    program.write_text(f"#!/bin/bash\n{body}\n")
    program.chmod(0o755)


@pytest.mark.parametrize(("endpoint", "host"), [(ENDPOINT, "first"), ("[fd00::1]:29500", "fd00::1")])
def test_torchrun_gets_the_folder_the_machine_and_where_all_meet(endpoint: str, host: str) -> None:
    from torch.distributed.elastic.rendezvous.utils import parse_rendezvous_endpoint
    from torch.distributed.run import config_from_args, get_args_parser

    words = launch_lines.torchrun("logs/sft-1", Launch("torchrun", 2, 2, endpoint), 1)
    found = get_args_parser().parse_args(words[1:])
    assert (found.nnodes, found.nproc_per_node, found.node_rank, found.max_restarts) == ("2", "2", 1, 0)
    assert found.no_python
    config, _, _ = config_from_args(found)
    assert config.rdzv_backend == "static"
    assert parse_rendezvous_endpoint(config.rdzv_endpoint, 0) == (host, 29500)
    assert [found.training_script, *found.training_script_args] == module_command("engine.train", "logs/sft-1")


def test_accelerate_gets_the_machines_and_where_they_meet() -> None:
    from accelerate.commands.launch import launch_command_parser

    words = launch_lines.accelerate("logs/sft-1", Launch("accelerate", 2, 2, ENDPOINT), 1)
    found = launch_command_parser().parse_args(words[2:])
    assert (found.num_machines, found.num_processes, found.machine_rank) == (2, 4, 1)
    assert found.num_cpu_threads_per_process is None
    assert (found.main_process_ip, found.main_process_port, found.multi_gpu) == ("first", 29500, True)
    assert [found.training_script, *found.training_script_args] == module_command("engine.train", "logs/sft-1")


@pytest.mark.parametrize(("asked", "threads"), [("", 1), ("3", 3), ("3,2", 3)], ids=["no", "some", "levels"])
def test_accelerate_gives_a_process_on_the_cpu_the_threads_of_ours(
    monkeypatch: pytest.MonkeyPatch, asked: str, threads: int
) -> None:
    from accelerate.commands.launch import launch_command_parser

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    if not asked:
        monkeypatch.delenv("OMP_NUM_THREADS")
    words = launch_lines.accelerate("logs/sft-1", Launch("accelerate", 2, 0, ENDPOINT), 0)
    found = launch_command_parser().parse_args(words[2:])
    assert found.num_cpu_threads_per_process == threads


def test_a_run_without_gpus_stays_on_the_cpu() -> None:
    assert launch_lines.environment(Launch("torchrun", 2, 0, ENDPOINT))["ACCELERATE_USE_CPU"] == "true"
    assert "ACCELERATE_USE_CPU" not in launch_lines.environment(Launch("torchrun", 2, 1, ENDPOINT))


@dataclass(frozen=True)
class Job:
    """What a batch script finds when it runs, in place of Slurm and of a run."""

    state: str = "finished"  # of the run, when its ranks have ended
    asked: bool = False  # to stop, by a person
    job: str = "RUNNING"  # as Slurm calls it then
    code: int = 0  # of the ranks
    answers: bool = True  # all machines of the job
    begun: bool = False  # in an earlier attempt
    resumable: bool = True
    in_use: bool = False  # by a process on a machine that does not answer
    restarts: int = 0  # of the job
    saved: bool = True  # a step, in this attempt
    left: str = "2:59"  # of its time, as Slurm says it


def carried_out(folder: Path, found: Job, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs the batch script with stand-ins for all it starts; returns what they printed."""
    run, programs = folder / "a project" / "logs" / "sft-1", folder / "programs"
    programs.mkdir()
    (run / "control").mkdir(parents=True)
    (run / "run.json").touch()
    os.utime(run / "run.json", (1, 1))
    if found.begun:
        (run / "events.jsonl").touch()
        os.utime(run / "events.jsonl", (2, 2))
    if found.asked:
        (run / "control" / "stop").touch()
    answer = f'case "$*" in true) exit {int(not found.answers)} ;; esac'
    fake(programs, "srun", f'echo "srun $@"; echo "cores $SRUN_CPUS_PER_TASK"; {answer}; exit {found.code}')
    fake(programs, "squeue", f'case "$*" in *%L*) echo {found.left} ;; *) echo {found.job} ;; esac')
    fake(programs, "scontrol", 'echo "scontrol $@"')
    resumed = "touch logs/sft-1/run.json" if found.resumable else ":"
    resumed = "exit 3" if found.in_use else resumed
    step = (
        f'[ -e asked ] && echo "{found.state} 5" || {{ touch asked; echo "running {"None" if found.saved else "5"}"; }}'
    )
    cases = f'*json.load*) cat ;; *resume*) echo "python $@"; {resumed} ;; *) {step} ;;'
    fake(programs, "python", f'case "$*" in {cases} esac')
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    script = launch_lines.batch_script("logs/sft-1", str(folder / "a project"), "sft-1", Launch("slurm", 2, 2))
    slurm = {"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "8"}
    restarts = {"SLURM_RESTART_COUNT": str(found.restarts)} if found.restarts else {}  # Slurm sets it from the second
    env = {"PATH": f"{programs}:{os.environ['PATH']}", **slurm, **restarts}
    result = subprocess.run(["bash"], input=script, text=True, env=env, capture_output=True, timeout=60, check=False)
    assert (result.stdout, result.stderr) == ("", "")
    return (run / "trainer.log").read_text()


@pytest.mark.parametrize(
    ("found", "requeued"),
    [
        (Job("stopped"), True),  # its time was over
        (Job("stopped", asked=True), False),  # a person stopped it
        (Job("stopped", job="COMPLETING"), False),  # the job was cancelled
        (Job("finished"), False),
        (Job("stopped", code=1, saved=False), False),  # before it trained
        (Job("prepared", code=143, saved=False), False),  # before it could handle the signal
        (Job("stopped", saved=False), False),  # in the first step
        (Job("stopped", saved=False, left="INVALID"), False),  # squeue's word for less than nothing
        (Job("stopped", code=143, saved=False, left="27:11"), True),  # a machine failed while it began
        (Job("prepared", code=143, saved=False, left="UNLIMITED"), True),
        (Job("machine_lost", code=143, saved=False, left="1-02:00:00"), True),
        (Job("stopped", saved=False, left="1:02:00", begun=True, restarts=9), True),
        (Job("stopped", saved=False, left="1:02:00", begun=True, restarts=10), False),  # not without end
        (Job("failed", code=143, saved=False, left="27:11"), False),  # srun ended the others of a rank that failed
        (Job("failed", code=143, saved=False, left="27:11", answers=False), True),
        (Job("running", code=143), True),  # killed after it had saved
        (Job("prepared", code=143, job="COMPLETING"), False),
        (Job("failed", code=1), False),
        (Job("failed", code=1, answers=False), True),  # a machine failed
        (Job("failed", code=1, answers=False, asked=True), False),
    ],
)
def test_a_job_is_queued_again_only_when_it_was_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: Job, requeued: bool
) -> None:
    said = carried_out(tmp_path, found, monkeypatch)
    assert f"srun --kill-on-bad-exit=1 {shlex.join(module_command('engine.train', 'logs/sft-1'))}\ncores 8\n" in said
    assert ("scontrol requeue 7" in said) == requeued
    assert ("resume" in said) == found.begun
    assert ("submit it with more" in said) == (found.left in ("2:59", "INVALID") and not found.saved)


@pytest.mark.parametrize("resumable", [True, False])
def test_a_job_that_begins_again_resumes_unless_it_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resumable: bool
) -> None:
    said = carried_out(tmp_path, Job(begun=True, resumable=resumable), monkeypatch)
    assert said.startswith("python -P -m sft_tui resume ./logs/sft-1\n")
    assert ("srun" in said) == resumable


@pytest.mark.parametrize("restarts", [0, 1])
def test_a_job_queued_again_waits_for_the_lock_of_a_dead_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restarts: int
) -> None:
    """NFS version 3 keeps it until that machine is up again; a job that was submitted twice does not wait."""
    said = carried_out(tmp_path, Job(begun=True, in_use=True, restarts=restarts), monkeypatch)
    assert "srun" not in said
    assert ("scontrol requeue 7" in said) == (restarts > 0)


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


KUBEFLOW = {"PET_NNODES": "2", "PET_NODE_RANK": "1", "PET_MASTER_ADDR": "first", "PET_MASTER_PORT": "29400"}
SKYPILOT = {
    "SKYPILOT_NUM_NODES": "2",
    "SKYPILOT_NUM_GPUS_PER_NODE": "2",
    "SKYPILOT_NODE_RANK": "1",
    "SKYPILOT_NODE_IPS": "first\nsecond",
}


@pytest.mark.parametrize(
    ("pattern", "given", "port"),
    [(r'sh, -c, "(.*)"\]$', KUBEFLOW, 29400), (r"run: \|\n(( {6}.*\n)+)", SKYPILOT, 29500)],
)
def test_the_examples_of_the_page_are_read_by_torchrun_as_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, given: dict[str, str], port: int
) -> None:
    from torch.distributed.run import get_args_parser

    found = re.search(pattern, PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    fake(tmp_path, "torchrun", 'printf "%s\\n" "$@"')
    env = {**given, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    script = found[1].replace("/shared/project", str(tmp_path))
    words = subprocess.run(["sh", "-c", script], env=env, capture_output=True, text=True, timeout=60, check=True)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    read = get_args_parser().parse_args(words.stdout.splitlines())
    assert (read.nnodes, read.nproc_per_node, read.node_rank, read.no_python) == ("2", "2", 1, True)
    assert (read.master_addr, read.master_port) == ("first", port)
    assert read.training_script_args == ["-P", "-m", "engine.train", "logs/chat-lora-1"]
