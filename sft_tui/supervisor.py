"""Owns the processes of one attempt: starts the trainer in a session of its own, and certifies how it ended.

The trainer's output goes to a file and it reads no input, so that nothing a viewer does or suffers reaches it.
"""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from engine.contract import events
from engine.contract.messages import Message
from engine.contract.rundir import RunDir, RunRecord
from engine.contract.stream import EventReader, EventWriter, last_attempt
from sft_tui.run_state import RunState, reduce

MODULES = {"train": "engine.train", "test": "engine.score"}
# accelerate reads a user's default file where none is named, and it silently changes a launch.
LAUNCH_CONFIG = "compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_GPU\nmixed_precision: 'no'\n"
TAIL_BYTES = 2000


def gpu_count() -> int:
    """GPUs this process may use, by the driver and CUDA_VISIBLE_DEVICES; 0 where there is no driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
        count = int(pynvml.nvmlDeviceGetCount())
        pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return count
    return min(count, len([name for name in visible.split(",") if name.strip() not in ("", "-1")]))


def cpu_asked() -> bool:
    """Whether ACCELERATE_USE_CPU says that the trainer is to use the CPU."""
    return os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "on")


def on_cpu(processes: int) -> bool:
    """Whether the CPU is to be named to the trainer: asked for, or several processes and no GPU that NVML knows.

    One process finds its device itself, which may be one that NVML does not know.
    """
    return cpu_asked() or (processes > 1 and gpu_count() == 0)


class Supervisor:
    """The trainer of one attempt."""

    def __init__(self, run_dir: RunDir, record: RunRecord) -> None:
        self.run_dir, self._record = run_dir, record
        self.attempt = last_attempt(run_dir.events) + 1
        run_dir.stop_request.unlink(missing_ok=True)
        with run_dir.trainer_output.open("ab") as output:
            self._process = subprocess.Popen(
                _command(run_dir, record),
                env=_environment(record),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process that was started: the trainer, or the launcher of several."""
        return self._process.pid

    def ended(self) -> bool:
        """Whether the process that was started has ended; a launcher ends after its ranks."""
        return self._process.poll() is not None

    def signal(self, number: int) -> None:
        """Sends a signal to every process of the attempt; a launcher puts its ranks into sessions of their own."""
        if self.ended():
            return
        first = psutil.Process(self._process.pid)
        for process in (*first.children(recursive=True), first):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def certify(self) -> None:
        """Writes how the attempt ended where the trainer could not do so itself."""
        state = RunState()
        for record in EventReader(self.run_dir.events).poll():
            state = reduce(state, record)
        if state.attempt == self.attempt and state.ended is not None:
            return
        log = EventWriter(self.run_dir.events, "supervisor", self.attempt)
        log.write(events.RunEnded("killed" if self._signal_name() else "failed", 1, self._message(state)))
        log.close()

    def _signal_name(self) -> str:
        code = self._process.returncode
        return signal.Signals(-code).name if code is not None and code < 0 else ""

    def _message(self, state: RunState) -> Message:
        resume = self._record.resume_option
        step = state.step.step if state.step and state.attempt == self.attempt else 0
        if name := self._signal_name():
            return Message.of("ended_killed", signal=name, phase=state.phase.name, step=step, resume_option=resume)
        tail = _tail(self.run_dir.trainer_output)
        code = self._process.returncode
        log = str(self.run_dir.trainer_output)
        return Message.of("ended_vanished", code=code, tail=tail, log=log, resume_option=resume)


def _tail(path: Path) -> str:
    """The last lines of a file, on one line."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").strip().splitlines()
    except OSError:
        return "-"
    return " | ".join(lines[-3:]) or "-"


def _command(run_dir: RunDir, record: RunRecord) -> list[str]:
    job = ["-m", MODULES[record.job], str(run_dir.path)]
    if record.processes == 1:
        return [sys.executable, *job]
    config = run_dir.path / "accelerate.yaml"
    config.write_text(f"{LAUNCH_CONFIG}num_processes: {record.processes}\n", encoding="utf-8")
    return [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--config_file",
        str(config),
        "--multi_gpu",
        "--num_processes",
        str(record.processes),
        "--main_process_port",
        "0",
        *job,
    ]


def _environment(record: RunRecord) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("ACCELERATE_")}
    env["PYTHONUNBUFFERED"] = "1"
    # Threads that spin while they wait take the core from the thread they wait for as soon as anything else runs
    # on it: with two other jobs on two cores a step took 10 s spinning and 1 s sleeping.
    env.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    env["TOKENIZERS_PARALLELISM"] = "true"
    env["PET_SIGNALS_TO_HANDLE"] = "SIGTERM,SIGINT"
    if on_cpu(record.processes):
        env["ACCELERATE_USE_CPU"] = "true"
        cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
        env.setdefault("OMP_NUM_THREADS", str(max(1, cores // record.processes)))
    return env
