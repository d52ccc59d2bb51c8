"""The line that starts a prepared run under torchrun, accelerate or Slurm; for Slurm also its batch script."""

import os
import re
import shlex
import sys
from pathlib import Path

from engine.contract.child_command import module_command
from engine.contract.files import open_regular, reason
from engine.contract.launch import Launch
from engine.contract.messages import InputError
from engine.contract.project import place_of
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir
from sft_tui.child_process import LIBRARY_SETTINGS, engine_environment

NOT_IN_NAMES = re.compile(r"[^\w.-]")  # a record may be foreign, and its name must not become lines of the script
RANK_PROGRAM = "engine.train"
MOST_LINES = 8  # machines for which each line is written out
SECONDS_TO_SAVE = 120  # before the end of its time, Slurm asks the ranks to save and end
SECONDS_TO_ANSWER = 60  # for a machine that is there to start a program
LAST_MINUTES = 5  # of its time: Slurm asks up to a minute earlier than it should
MOST_RESTARTS = 10  # of a job that is cut off before it saves a step, and not by its time


def write(run_dir: RunDir, record: RunRecord) -> list[str]:
    """The lines that start a run, one for each machine, of more than `MOST_LINES` only the first machine's.

    Slurm needs one, and its batch script is written; raises InputError.
    """
    folder, project = _place(run_dir, record)
    launch = record.launch
    if launch.launcher == "slurm":
        _write_script(run_dir.batch_script, batch_script(folder, project, record.run, launch))
        return [shlex.join(["sbatch", str(run_dir.batch_script)])]
    words = torchrun if launch.launcher == "torchrun" else accelerate
    variables = [f"{name}={value}" for name, value in environment(launch).items()]
    machines = range(launch.nodes if launch.nodes <= MOST_LINES else 1)
    begin = f"cd {shlex.quote(project)} && "
    return [begin + shlex.join(["env", *variables, *words(folder, launch, machine)]) for machine in machines]


def _write_script(path: Path, script: str) -> None:
    try:
        fd = open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        with open(fd, "w", encoding="utf-8") as file:
            file.write(script)
    except OSError as error:
        raise InputError("folder_unwritable", path=str(path.parent), setting="logs", why=reason(error)) from None


def _place(run_dir: RunDir, record: RunRecord) -> tuple[str, str]:
    """The run's folder as its ranks name it, and the folder in which they are started."""
    folder, project = place_of(run_dir.path, record.project)
    home = os.path.abspath(project or os.getcwd())
    inside = os.path.relpath(os.path.join(home, folder), home)
    return (folder if inside.startswith(os.pardir) else inside), home


def environment(launch: Launch) -> dict[str, str]:
    """The variables of the ranks."""
    where = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"} if launch.gpus else {"ACCELERATE_USE_CPU": "true"}
    return {**LIBRARY_SETTINGS, **where}


def rank_command(folder: str) -> list[str]:
    """The program of each rank. Its only argument is the folder, since launchers read options even behind it."""
    return module_command(RANK_PROGRAM, folder)


def torchrun(folder: str, launch: Launch, machine: int) -> list[str]:
    """The words on a machine of this number, from 0; all meet on the first.

    Without numbers (`--rdzv-backend=c10d`) the machines would meet by the name that one of them has for itself, which
    the others may not know, and would miss one whose clock is 15 s behind.
    """
    host, port = launch.meeting
    meeting = ["--standalone"]
    if launch.nodes > 1:
        meeting = [f"--master-addr={host}", f"--master-port={port}", f"--node-rank={machine}"]
    counts = [f"--nnodes={launch.nodes}", f"--nproc-per-node={launch.on_each}", "--max-restarts=0"]
    return [_program("torchrun"), *counts, *meeting, "--no-python", *rank_command(folder)]


def accelerate(folder: str, launch: Launch, machine: int) -> list[str]:
    """The words for accelerate, which gives a process one thread unless asked for more."""
    host, port = launch.meeting
    cores = engine_environment(launch.on_each)["OMP_NUM_THREADS"].partition(",")[0]  # of OpenMP's levels, the outermost
    several = ["--multi_gpu"] * (launch.processes > 1)
    machines = [f"--num_machines={launch.nodes}", f"--num_processes={launch.processes}"]
    meeting = [f"--main_process_ip={host}", f"--main_process_port={port}", f"--machine_rank={machine}"]
    threads = [] if launch.gpus else [f"--num_cpu_threads_per_process={cores}"]
    plain = [*threads, "--mixed_precision=no", "--dynamo_backend=no", "--no_python"]
    meeting = meeting if launch.nodes > 1 else []
    return [_program("accelerate"), "launch", *several, *machines, *meeting, *plain, *rank_command(folder)]


def _program(name: str) -> str:
    """A program of this Python environment, by its path: the other machines may find another one of that name."""
    return str(Path(sys.executable).with_name(name))


def batch_script(folder: str, project: str, run: str, launch: Launch) -> str:
    """The batch script: starts the ranks; resumes when the job begins again; queues it again if it was cut off."""
    here, again = shlex.quote(folder), shlex.join(module_command("sft_tui", "resume"))
    status = shlex.join(module_command("sft_tui", "status", "--json"))
    reading = 'import json, sys; run = json.load(sys.stdin); print(run["status"], run["checkpoint"])'
    state = shlex.join([sys.executable, "-c", reading])
    exports = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in environment(launch).items())
    gpus = f"\n#SBATCH --gpus-per-node={launch.gpus}" if launch.gpus else ""
    return f"""#!/bin/bash
#SBATCH --job-name={NOT_IN_NAMES.sub("_", run)}
#SBATCH --nodes={launch.nodes}
#SBATCH --ntasks-per-node={launch.on_each}{gpus}
#SBATCH --signal=TERM@{SECONDS_TO_SAVE}
#SBATCH --requeue
# What your cluster also asks for (partition, account, time, cores a task) are options of sbatch.

cd {shlex.quote(project)} || exit
run={here}
[ "${{run#/}}" != "$run" ] || run="./$run"
exec >> "$run/trainer.log" 2>&1
{exports}
if [ -n "${{SLURM_CPUS_PER_TASK:-}}" ]; then
    # srun itself has not read the first of these since Slurm 22.05: each task would be bound to one core.
    export OMP_NUM_THREADS="$SLURM_CPUS_PER_TASK" SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"
fi

# It has begun already: a machine failed, the job had to make room, its time was over, or you submitted it again.
if [ "$run/events.jsonl" -nt "$run/run.json" ]; then
    {again} "$run"
    code=$?
    # 3: it is in use, as after a machine failed whose lock lasts until it is up again (NFS version 3).
    [ "$code" != 3 ] || [ "${{SLURM_RESTART_COUNT:-0}}" = 0 ] || scontrol requeue "$SLURM_JOB_ID"
    [ "$code" = 0 ] || exit "$code"
    [ "$run/run.json" -nt "$run/events.jsonl" ] || exit 0  # it is finished: there was nothing to resume
fi

state() {{ {status} "$run" | {state}; }}  # a word, and the step of the newest checkpoint
before=$(state)
srun --kill-on-bad-exit=1 {shlex.join(rank_command(folder))}
code=$?

# Slurm's signal made it save and end (143: it was still starting), or a machine no longer answers, which Slurm itself
# may notice much later: the job goes back into the queue, unless you stopped it or cancelled the job. One whose time is
# over and that has saved no step would be cut off at the same place again. Slurm also signals when a machine failed.
if [ ! -e "$run/control/stop" ] && [ "$(squeue -h -o %T -j "$SLURM_JOB_ID")" = RUNNING ]; then
    after=$(state)
    case "$after $code" in
        stopped* | prepared*143 | running*143 | killed*143 | machine_lost*143)
            if [ "${{after##* }}" = "${{before##* }}" ]; then
                case "$(squeue -h -o %L -j "$SLURM_JOB_ID")" in  # the time that it has left
                    [0-{LAST_MINUTES - 1}]:[0-5][0-9] | INVALID)
                        echo "The job's time was over before a step was saved: submit it with more (sbatch --time)."
                        exit 1
                        ;;
                esac
                if [ "${{SLURM_RESTART_COUNT:-0}}" -ge {MOST_RESTARTS} ]; then
                    echo "The job was cut off before a step was saved, after it was queued {MOST_RESTARTS} times."
                    exit 1
                fi
            fi
            scontrol requeue "$SLURM_JOB_ID"
            ;;
        *" 0") ;;
        *) timeout {SECONDS_TO_ANSWER} srun true || scontrol requeue "$SLURM_JOB_ID" ;;
    esac
fi
exit "$code"
"""
