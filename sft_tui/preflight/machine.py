"""Whether the machine is fit for the run: processes and devices, limits, the effect of a logout, the clock."""

import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from engine.contract import native_library
from engine.contract.config import RunConfig
from engine.contract.texts import filled
from sft_tui.machine import gpus
from sft_tui.preflight.finding import Finding
from sft_tui.preflight.fix import Start, System
from sft_tui.text import size

HERE = str(Path(__file__).parents[2])  # the source folder of a package installed by `pip install -e`
STATES = {
    "missing": {"state": "was not compiled", "state_zh": "没有编译"},
    "stale": {"state": "was compiled from another version of its source", "state_zh": "是由其源文件的另一版本编译的"},
}
FEWEST_FILES = 256
LEAST_SHM = 64 << 20  # bytes; the default of containers
CLOCK_SLACK = 3600.0  # seconds
BUS_SECONDS, PORT_SECONDS = 2.0, 2.0


def findings(config: RunConfig, processes: int, start: Start, memory: int) -> Iterator[Finding]:
    """Findings on the machine; `start` is the action that starts the run, `memory` the machine's memory in bytes."""
    count = 0 if gpus.cpu_requested() else gpus.gpu_count()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    device = filled("{count} GPU(s)", {"count": count}) if count else "CPU"
    about = {"processes": processes, "device": device, "memory": size(memory), "cores": cores}
    yield Finding("ok", "machine", "machine", about)
    if count and processes > count:
        yield Finding(
            "error",
            "processes_over_gpus",
            "num_processes",
            {"processes": processes, "gpus": count},
            (System(("env", "ACCELERATE_USE_CPU=true", *start.argv)),),
        )
    if not count and processes > cores:
        yield Finding("warning", "processes_over_cores", "num_processes", {"processes": processes, "cores": cores})
    if not gpus.cpu_requested() and (why := gpus.fault()):
        yield Finding("warning", "gpu_unreadable", "machine", {"why": why})
    if count and processes > 1:
        yield from _shared_memory()
    if processes > 1 and (why := unreachable()):
        yield Finding("error", "ports_closed", "machine", {"why": why}, (System(("ip", "link", "set", "lo", "up")),))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < FEWEST_FILES:
        yield Finding("warning", "files_few", "machine", {"limit": soft}, (System(("ulimit", "-n", "4096")),))
    if not count:
        yield from _compiled()
    if logout_kills():
        scoped = System(("systemd-run", "--user", "--scope", *start.argv))
        yield Finding("warning", "logout_kills", "machine", {}, (System(("loginctl", "enable-linger")), scoped))
    yield from _clock([config.train_file, config.validation_file, config.pretrained_model])


def unreachable() -> str:
    """Why processes cannot reach each other through a free port of this machine; empty if they can.

    Ranks rendezvous through a file, then exchange gradients over TCP: at the address that the machine's name resolves
    to, or else at the loopback address, on ports that the system assigns.
    """
    why = ""
    for host in (socket.gethostname(), "127.0.0.1"):
        try:
            address = socket.gethostbyname(host)
            with (
                socket.create_server((address, 0)) as server,
                socket.create_connection(server.getsockname(), PORT_SECONDS),
            ):
                return ""
        except OSError as error:
            why = f"{host}: {error.strerror or error}"
    return why


def _compiled() -> Iterator[Finding]:
    """The finding if this processor cannot use the trainer's own code in C."""
    fault = native_library.fault()
    if fault is None:
        return
    if fault.code == "unloadable":
        yield Finding("warning", "unloadable", "machine", {"why": fault.why})
    elif Path(HERE, "pyproject.toml").is_file():
        install = System((sys.executable, "-m", "pip", "install", "-e", HERE))
        yield Finding("warning", "uncompiled", "machine", STATES[fault.code], (install,))
    else:
        yield Finding("warning", "uncompiled_wheel", "machine", STATES[fault.code])


def _shared_memory() -> Iterator[Finding]:
    try:
        found = os.statvfs("/dev/shm")
    except OSError:
        return
    free = found.f_bavail * found.f_frsize
    if free < LEAST_SHM:
        yield Finding("warning", "shm_small", "machine", {"free": size(free)})


def logout_kills(cgroup: Path = Path("/proc/self/cgroup")) -> bool:
    """Whether logind ends this process's session, and the run with it, when its user logs out.

    It ends only the scope of the session, whether or not the user lingers, and spares root (logind.conf(5):
    KillUserProcesses, KillExcludeUsers).
    """
    try:
        scope = cgroup.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    if "session-" not in scope or ".scope" not in scope or os.geteuid() == 0:
        return False
    place = ("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager")
    try:
        answer = subprocess.run(
            ["busctl", "get-property", *place, "KillUserProcesses"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=BUS_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.stdout.strip() == b"b true"


def _clock(paths: list[str]) -> Iterator[Finding]:
    now = time.time()
    for path in filter(None, paths):
        try:
            written = Path(path).stat().st_mtime
        except OSError:
            continue
        if written > now + CLOCK_SLACK:
            shown = {key: time.strftime("%Y-%m-%d %H:%M", time.localtime(at)) for key, at in
                     (("now", now), ("then", written))}  # fmt: skip
            set_it = System(("timedatectl", "set-ntp", "true"))
            yield Finding("warning", "clock_off", "machine", {"path": path, **shown}, (set_it,))
            return
