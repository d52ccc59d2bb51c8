"""A Slurm cluster of a controller and two nodes, each with a network, a host name and processes of its own.

The first process of a machine is `bash`: if that is killed, nothing that ran there is left, as when its power fails.
All machines see the same files.
"""

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.machines.networks import LIMIT, Network, connected
from tests.processes import until

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "ip", "nsenter", "unshare")
CONTROLLER, NODES = "control", ("node1", "node2")
BEGIN = 'hostname "$1" && mount --bind "$2" /etc/hosts && shift 2 && "$@" & wait'
# No accounting and no passwords. A requeued job waits five seconds, not two minutes (cred_expire).
SETTINGS = """ClusterName=tests
SlurmctldHost=control({control})
SlurmUser=root
AuthType=auth/none
AuthInfo=cred_expire=5
CredType=cred/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SlurmdTimeout=20
ReturnToService=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
{nodes}
PartitionName=all Nodes=ALL Default=YES State=UP
"""


class Cluster:
    """A running cluster; `folder` has its settings, state and logs."""

    def __init__(self, folder: Path, network: Network) -> None:
        self._folder, self._network = folder, network
        self._settings, self._hosts = folder / "slurm.conf", folder / "hosts"
        self._machines: dict[str, subprocess.Popen[bytes]] = {}

    def write_settings(self) -> None:
        """Writes the files that all machines read, and makes their folders."""
        addresses, folder = self._network.addresses, self._folder
        lines = [f"{address} {name}" for name, address in addresses.items()]
        self._hosts.write_text("\n".join(["127.0.0.1 localhost", *lines, ""]))
        nodes = "\n".join(f"NodeName={name} NodeAddr={addresses[name]} CPUs=2 State=UNKNOWN" for name in NODES)
        self._settings.write_text(SETTINGS.format(control=addresses[CONTROLLER], folder=folder, nodes=nodes))
        for name in ("state", *NODES):
            (folder / name).mkdir()

    def switch_on(self, name: str) -> None:
        """Starts a machine with its daemon."""
        daemon = ["slurmctld", "-D"] if name == CONTROLLER else ["slurmd", "-D", "-N", name]
        apart = ["unshare", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
        words = [*apart, "bash", "-c", BEGIN, "bash", name, str(self._hosts), *daemon, "-f", str(self._settings)]
        with (self._folder / f"{name}.txt").open("ab") as output:
            self._machines[name] = subprocess.Popen(
                self._network.within(name, words),
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def switch_off(self, name: str) -> None:
        """Ends a machine and everything on it at once."""
        process = self._machines.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(LIMIT)

    def end(self) -> None:
        """Ends all machines."""
        for name in list(self._machines):
            self.switch_off(name)

    def ask(self, *words: str, folder: Path | None = None) -> str:
        """What one of Slurm's commands answers."""
        result = self._asked(words, folder)
        assert result.returncode == 0, (words, result.stdout, result.stderr)
        return result.stdout.strip()

    def _asked(self, words: tuple[str, ...], folder: Path | None = None) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self._network.within(CONTROLLER, words),
            cwd=folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "LC_ALL": "C.UTF-8", "SLURM_CONF": str(self._settings)}

    def job(self, number: str, key: str) -> str:
        """A value that Slurm has for a job."""
        found = re.search(rf"\b{key}=(\S+)", self.ask("scontrol", "show", "job", "--oneliner", number))
        assert found is not None, key
        return found[1]

    def wait(self, number: str, *states: str, limit: float = 240) -> None:
        """Returns when a job is in one of these states."""
        until(lambda: self.job(number, "JobState") in states, limit)

    def wait_idle(self) -> None:
        """Returns when all nodes answer, and none works."""
        until(lambda: self._asked(("sinfo", "-h", "-N", "-o", "%T")).stdout.split() == ["idle"] * len(NODES), LIMIT)


@contextlib.contextmanager
def started(folder: Path) -> Iterator[Cluster]:
    """A cluster that waits for jobs."""
    with connected((CONTROLLER, *NODES)) as network:
        cluster = Cluster(folder, network)
        cluster.write_settings()
        try:
            for name in (CONTROLLER, *NODES):
                cluster.switch_on(name)
            cluster.wait_idle()
            yield cluster
        finally:
            cluster.end()
