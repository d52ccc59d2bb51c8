"""Checks of the machine: processes and devices, limits, the effect of a logout, the clock; and what fixes them."""

import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from engine.contract import native_library
from engine.contract.config import RunConfig
from engine.contract.launch import OURS, Launch
from engine.contract.machine import gpus, other_gpus
from engine.contract.machine.gpus import UsableGpu
from engine.contract.machine.other_gpus import OtherGpu
from engine.contract.texts import Phrase, filled
from sft_tui.preflight.declaration import Actions, CheckedRun, Group, Seen
from sft_tui.preflight.finding import Finding, Level
from sft_tui.preflight.fix import System
from sft_tui.preflight.request import CheckRequest
from sft_tui.text import size

HERE = str(Path(__file__).parents[2])  # the source folder of a package installed by `pip install -e`
FEWEST_FILES = 256
LEAST_SHM = 64 << 20  # bytes; the default of containers
CLOCK_SLACK = 3600.0  # seconds
ALIKE = 0.9  # share of the largest GPU's memory
BY_BUS = "PCI_BUS_ID"  # CUDA_DEVICE_ORDER as the driver numbers GPUs, which is what ranks are given by default
BUS_SECONDS, PORT_SECONDS = 2.0, 2.0


@dataclass(frozen=True)
class Machine:
    """What a run uses of the machine: `memory` is the machine's in bytes, `gpus` those that it may use.

    `cards` are these GPUs, and `unused` those of other makers.
    """

    config: RunConfig
    processes: int
    memory: int
    gpus: int
    cores: int
    cards: tuple[UsableGpu, ...] = ()
    unused: tuple[OtherGpu, ...] = ()
    on_gpu: bool = True  # whether GPUs are wanted

    @classmethod
    def of(cls, config: RunConfig, processes: int, memory: int, launch: Launch = OURS) -> Self:
        """This machine, for the processes that it would have of a run."""
        on_gpu = launch.gpus > 0 if launch.launcher else not gpus.cpu_requested()
        cards = tuple(gpus.usable()) if on_gpu else ()
        others = tuple(other_gpus.found()) if on_gpu else ()
        return cls(config, processes, memory, len(cards), allowed_cores(), cards, others, on_gpu)


@dataclass(frozen=True)
class Elsewhere:
    """The machines of a run of which this one is none, or probably none."""

    launch: Launch


MACHINE = Group[Machine]("Machine", "machine")
ELSEWHERE = Group[Elsewhere]("Machine", "machine")
FILES = Group[Machine]("Machine", "machine")  # what holds of every machine that has the same files


def findings(request: CheckRequest, memory: int) -> Iterator[Finding]:
    """The findings on this machine, of `memory` bytes, or what is known of machines that are others."""
    if request.elsewhere:
        yield from ELSEWHERE.findings(Elsewhere(request.launch))
        used = Machine(request.config, request.here, memory, request.launch.gpus, allowed_cores())
    else:
        used = Machine.of(request.config, request.here, memory, request.launch)
        yield from MACHINE.findings(used)
    yield from FILES.findings(used)


def allowed_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# --- remedies


def on_the_cpu(_finding: Finding, run: CheckedRun) -> Actions:
    """Start it on the CPU."""
    return (System(("env", "ACCELERATE_USE_CPU=true", *run.start.argv)),) if run.start else ()


def a_process_a_core(finding: Finding, run: CheckedRun) -> Actions:
    """Use as many processes as cores."""
    return (run.check(num_processes=finding.args["cores"]),)


def list_gpus(_finding: Finding, _run: CheckedRun) -> Actions:
    """See what the driver says."""
    return (System(("nvidia-smi",)),)


def only_the_larger(_finding: Finding, run: CheckedRun) -> Actions:
    """Train on the larger one alone."""
    cards = sorted(gpus.usable(), key=lambda card: (-(card.total or 0), card.index))
    return (System(("env", f"CUDA_VISIBLE_DEVICES={cards[0].index}", *run.start.argv)),) if run.start and cards else ()


def more_shm(_finding: Finding, _run: CheckedRun) -> Actions:
    """Make it larger."""
    return (System(("mount", "-o", "remount,size=1g", "/dev/shm")),)


def loopback(_finding: Finding, _run: CheckedRun) -> Actions:
    """Bring the loopback interface up."""
    return (System(("ip", "link", "set", "lo", "up")),)


def more_files(_finding: Finding, _run: CheckedRun) -> Actions:
    """Raise the limit."""
    return (System(("ulimit", "-n", "4096")),)


def install_again(_finding: Finding, _run: CheckedRun) -> Actions:
    """Install the program again where gcc is installed."""
    return (System((sys.executable, "-m", "pip", "install", "-e", HERE)),)


def linger(_finding: Finding, run: CheckedRun) -> Actions:
    """Let processes outlive the login, and start the run in a scope of its own."""
    scoped = (System(("systemd-run", "--user", "--scope", *run.start.argv)),) if run.start else ()
    return System(("loginctl", "enable-linger")), *scoped


def set_clock(_finding: Finding, _run: CheckedRun) -> Actions:
    """Set the clock."""
    return (System(("timedatectl", "set-ntp", "true")),)


# --- checks


@MACHINE.check("machine", "ok")
def _machine(machine: Machine) -> Iterator[Seen]:
    """Processes, devices, memory and cores."""
    device = filled("{count} GPU(s)", {"count": machine.gpus}) if machine.gpus else "CPU"
    counts = {"processes": machine.processes, "cores": machine.cores}
    yield Seen({"device": device, "memory": size(machine.memory), **counts})


@MACHINE.check("processes_over_gpus", "error", subject="num_processes", remedy=on_the_cpu)
def _processes_over_gpus(machine: Machine) -> Iterator[Seen]:
    """There are more processes than GPUs."""
    if machine.gpus and machine.processes > machine.gpus:
        yield Seen({"processes": machine.processes, "gpus": machine.gpus})


@MACHINE.check("processes_over_cores", "warning", subject="num_processes", remedy=a_process_a_core)
def _processes_over_cores(machine: Machine) -> Iterator[Seen]:
    """There are more processes than cores."""
    if not machine.gpus and machine.processes > machine.cores:
        yield Seen({"processes": machine.processes, "cores": machine.cores})


@MACHINE.check("gpu_unreadable", "warning", remedy=list_gpus)
def _gpu_unreadable(machine: Machine) -> Iterator[Seen]:
    """The driver of the GPUs fails."""
    if machine.on_gpu and (why := gpus.fault()):
        yield Seen({"why": why})


@MACHINE.check("gpus_unlike", "warning", remedy=only_the_larger)
def _gpus_unlike(machine: Machine) -> Iterator[Seen]:
    """The run's GPUs differ in memory by more than a tenth: the smaller one decides."""
    cards = [card for card in machine.cards[: machine.processes] if card.total]
    sizes = [card.total or 0 for card in cards]
    if sizes and min(sizes) < ALIKE * max(sizes):
        cards.sort(key=lambda card: card.total or 0)
        words = tuple(f"GPU {card.index} ({card.name}) {size(card.total or 0)}" for card in cards)
        yield Seen({"gpus": words, "smallest": cards[0].index})


@MACHINE.check("gpus_reordered", "warning")
def _gpus_reordered(machine: Machine) -> Iterator[Seen]:
    """CUDA_DEVICE_ORDER has CUDA number several GPUs of unlike kinds in an order that the driver does not know."""
    order = os.environ.get("CUDA_DEVICE_ORDER", BY_BUS)
    if order != BY_BUS and len({(card.name, card.total) for card in machine.cards}) > 1:
        yield Seen({"order": order})


@MACHINE.check("torch_without_cuda", "warning", "error", remedy=on_the_cpu)
def _torch_without_cuda(machine: Machine) -> Iterator[Seen]:
    """NVIDIA GPUs are there, and this torch was built without CUDA; an error for several processes."""
    build = other_gpus.torch_build()
    if machine.gpus and build.version and "cuda" not in build.backends:
        level: Level = "error" if machine.processes > 1 else "warning"
        yield Seen({"gpus": machine.gpus, "torch": build.version}, level)


@MACHINE.check("gpu_unseen", "warning")
def _gpu_unseen(machine: Machine) -> Iterator[Seen]:
    """A GPU of AMD or Intel is there, and this torch cannot use it."""
    makers = other_gpus.makers([gpu for gpu in machine.unused if not gpu.usable])
    if makers and not machine.gpus:
        yield Seen({"makers": makers, "torch": other_gpus.torch_build().version})


@MACHINE.check("gpu_unread", "warning", remedy=on_the_cpu)
def _gpu_unread(machine: Machine) -> Iterator[Seen]:
    """A GPU of AMD or Intel is there, and this torch can use it, whose memory and load are not read."""
    makers = other_gpus.makers([gpu for gpu in machine.unused if gpu.usable])
    if makers and not machine.gpus:
        yield Seen({"makers": makers})


@MACHINE.check("shm_small", "warning", remedy=more_shm)
def _shm_small(machine: Machine) -> Iterator[Seen]:
    """/dev/shm is too small for processes that train together on GPUs."""
    free = free_shm()
    if machine.gpus and machine.processes > 1 and free is not None and free < LEAST_SHM:
        yield Seen({"free": size(free)})


@MACHINE.check("ports_closed", "error", remedy=loopback)
def _ports_closed(machine: Machine) -> Iterator[Seen]:
    """Processes cannot reach each other through a port."""
    if machine.processes > 1 and (why := unreachable()):
        yield Seen({"why": why})


@ELSEWHERE.check("machine_elsewhere", "ok")
def _machine_elsewhere(elsewhere: Elsewhere) -> Iterator[Seen]:
    """Processes and devices of machines of which this one is none."""
    launch = elsewhere.launch
    device = filled("{count} GPU(s)", {"count": launch.gpus}) if launch.gpus else "CPU"
    yield Seen({"nodes": launch.nodes, "processes": launch.on_each, "device": device})


@ELSEWHERE.check("torch_without_gpus", "warning")
def _torch_without_gpus(elsewhere: Elsewhere) -> Iterator[Seen]:
    """The torch of this environment was built for no GPU."""
    build = other_gpus.torch_build()
    if elsewhere.launch.gpus and build.version and not build.backends:
        yield Seen({"torch": build.version})


@FILES.check("files_few", "warning", remedy=more_files)
def _files_few(_machine: Machine) -> Iterator[Seen]:
    """Few files may be open at once."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < FEWEST_FILES:
        yield Seen({"limit": soft})


@FILES.check("uncompiled", "warning", remedy=install_again)
def _uncompiled(machine: Machine) -> Iterator[Seen]:
    """The trainer's part in C was not compiled, or from other sources; here it can be."""
    fault = None if machine.gpus else native_library.fault()
    if fault is not None and fault.code != "unloadable" and from_checkout():
        yield Seen({"state": Phrase.of(f"uncompiled.{fault.code}")})


@FILES.check("uncompiled_wheel", "warning")
def _uncompiled_wheel(machine: Machine) -> Iterator[Seen]:
    """The same, if the program was installed as a wheel."""
    fault = None if machine.gpus else native_library.fault()
    if fault is not None and fault.code != "unloadable" and not from_checkout():
        yield Seen({"state": Phrase.of(f"uncompiled.{fault.code}")})


@FILES.check("unloadable", "warning")
def _unloadable(machine: Machine) -> Iterator[Seen]:
    """The trainer's part in C cannot be loaded."""
    fault = None if machine.gpus else native_library.fault()
    if fault is not None and fault.code == "unloadable":
        yield Seen({"why": fault.why})


@MACHINE.check("logout_kills", "warning", remedy=linger)
def _logout_kills(_machine: Machine) -> Iterator[Seen]:
    """Logging out would end the run."""
    if logout_kills():
        yield Seen()


@FILES.check("clock_off", "warning", remedy=set_clock)
def _clock_off(machine: Machine) -> Iterator[Seen]:
    """A file of the run is from the future."""
    now, config = time.time(), machine.config
    for path in filter(None, (config.train_file, config.validation_file, config.pretrained_model)):
        try:
            written = Path(path).stat().st_mtime
        except OSError:
            continue
        if written > now + CLOCK_SLACK:
            yield Seen({"path": path, "now": _minute(now), "then": _minute(written)})
            return


def _minute(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def from_checkout() -> bool:
    """Whether the program runs from its sources."""
    return Path(HERE, "pyproject.toml").is_file()


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


def free_shm() -> int | None:
    """Free bytes of /dev/shm; None if there is none."""
    try:
        found = os.statvfs("/dev/shm")
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


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
