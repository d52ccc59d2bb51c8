"""The batch script of a prepared run under a real Slurm, on two nodes: it ends, or is cut off and resumes."""

import json
import os
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.contract import events
from engine.contract.rundir import RunDir
from tests.engine.conftest import Outcome, outcome_of
from tests.machines import cluster
from tests.machines.cluster import NODES, Cluster
from tests.processes import SFT_TUI, Result, options, run, until

pytestmark = pytest.mark.slow

EPOCHS = 6  # of five steps
PROJECT_RUN = Path("logs/sft-small-1")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A running cluster, for all tests here."""
    missing = [program for program in cluster.PROGRAMS if shutil.which(program) is None]
    if os.geteuid() or missing:
        pytest.skip(f"NOT TESTED: Slurm needs root and slurm-wlm (missing: {', '.join(missing) or 'root'})")
    with cluster.started(tmp_path_factory.mktemp("slurm")) as found:
        yield found


class Prepared:
    """A run that was prepared for Slurm, in a project of its own."""

    def __init__(self, slurm: Cluster, project: Path, settings: dict[str, Any]) -> None:
        self.slurm, self.project = slurm, project
        self.run_dir = RunDir(project / PROJECT_RUN)
        words = ("prepare", "sft-small", "--nodes", "2", "--gpus", "0", "--launcher", "slurm", *options(settings))
        self.line = self.sft_tui(*words).out

    def sft_tui(self, *words: str) -> Result:
        """One of our commands, in the project."""
        result = run(*SFT_TUI, *words, folder=self.project)
        assert result.code == 0, (words, result)
        return result

    def submit(self, *words: str) -> str:
        """Starts the job by the printed line, with more options; returns its number."""
        program, script = shlex.split(self.line)
        asked = ("--parsable", "--cpus-per-task=1", "--time=30", *words)
        return self.slurm.ask(program, *asked, script, folder=self.project)

    @property
    def outcome(self) -> Outcome:
        return outcome_of(self.run_dir, 0)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.sft_tui("status", "--json", PROJECT_RUN.name).out)
        return found

    def wait_for_steps(self, number: int) -> None:
        """Returns when that many steps are done, those of all attempts counted."""
        until(lambda: len(self.outcome.all(events.Step)) >= number, 120)

    def said(self) -> str:
        """What the job printed."""
        return self.run_dir.trainer_output.read_text()

    def wait_for_restart(self, job: str) -> None:
        """Returns when a job was put back into the queue."""
        until(lambda: self.slurm.job(job, "Restarts") == "1", 120)

    def ends(self) -> list[str]:
        """How each attempt ended that came so far as to report it."""
        return [event.reason for event in self.outcome.all(events.RunEnded)]

    def finishes_like(self, uncut: Outcome, job: str) -> None:
        """Waits for the end of a job, and compares its run with one that was not cut off."""
        self.slurm.wait(job, "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
        assert self.slurm.job(job, "JobState") == "COMPLETED", self.said()
        assert self.ends()[-1] == "finished"
        assert losses(self.outcome) == losses(uncut)
        assert weights(self.outcome) == weights(uncut)


def losses(outcome: Outcome) -> list[tuple[int, float]]:
    """The loss of every step; a step that was repeated with another loss is there twice."""
    return sorted({(event.step, event.loss) for event in outcome.all(events.Step)})


def weights(outcome: Outcome) -> bytes:
    folder = outcome.output.best
    return (folder / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def settings(tiny_settings: dict[str, Any]) -> dict[str, Any]:
    return {**tiny_settings, "gradient_accumulation_steps": 4, "epochs": EPOCHS, "keep_latest_n_ckp": 3}


@pytest.fixture(scope="module")
def uncut(launch_two: Callable[..., Result], make_run: Callable[..., RunDir], settings: dict[str, Any]) -> Outcome:
    """The same run on two processes of one machine, never cut off."""
    run_dir = make_run(processes=2, **settings)
    return outcome_of(run_dir, launch_two("-m", "engine.train", str(run_dir.path)).code)


@pytest.fixture
def prepared(slurm: Cluster, tmp_path: Path, settings: dict[str, Any]) -> Iterator[Prepared]:
    """A run that is ready to be queued, on a cluster where nothing else runs."""
    yield Prepared(slurm, tmp_path, settings)
    slurm.ask("scancel", "--user=root")
    slurm.wait_idle()


def test_slurm_trains_a_run_on_two_nodes_as_two_local_ranks_do(prepared: Prepared, uncut: Outcome) -> None:
    job = prepared.submit()
    prepared.finishes_like(uncut, job)
    assert prepared.slurm.job(job, "NumNodes") == "2"
    assert prepared.run_dir.events_of(1).exists()  # the other rank was on another machine


def test_a_cancelled_job_has_saved_and_resumes_only_when_asked(prepared: Prepared, uncut: Outcome) -> None:
    job = prepared.submit()
    prepared.wait_for_steps(5)
    prepared.slurm.ask("scancel", job)
    prepared.slurm.wait(job, "CANCELLED")
    prepared.slurm.wait_idle()
    found = prepared.status()
    assert (found["status"], found["checkpoint"]) == ("stopped", found["step"])
    assert prepared.slurm.ask("squeue", "-h") == ""
    prepared.line = prepared.sft_tui("resume", PROJECT_RUN.name).out
    prepared.finishes_like(uncut, prepared.submit())


def test_a_requeued_job_resumes_from_its_newest_checkpoint(prepared: Prepared, uncut: Outcome) -> None:
    job = prepared.submit()
    prepared.wait_for_steps(5)
    prepared.slurm.ask("scontrol", "requeue", job)
    prepared.wait_for_restart(job)
    prepared.finishes_like(uncut, job)
    assert prepared.ends() == ["stopped", "finished"]
    assert prepared.outcome.codes(events.Notice).count("resumed") == 1


def test_a_job_whose_time_is_over_saves_and_queues_itself(prepared: Prepared, uncut: Outcome) -> None:
    job, slurm = prepared.submit("--time=120", "--signal=TERM@3600"), prepared.slurm
    prepared.wait_for_steps(5)
    # Slurm looks at the clock twice a minute, and the run must not be over then. Its signal also continues it.
    slurm.ask("scancel", "--signal=STOP", job)
    slurm.ask("scontrol", "update", f"jobid={job}", "timelimit=60")
    prepared.wait_for_restart(job)
    slurm.ask("scontrol", "update", f"jobid={job}", "timelimit=120")
    prepared.finishes_like(uncut, job)
    assert prepared.ends() == ["stopped", "finished"]


def test_a_job_that_a_person_stops_is_not_queued_again(prepared: Prepared) -> None:
    job = prepared.submit("--cpus-per-task=2")
    prepared.wait_for_steps(5)
    assert " CPUs=4 " in prepared.slurm.ask(
        "scontrol", "show", "step", f"{job}.0", "--oneliner"
    )  # two for each process
    prepared.sft_tui("stop", PROJECT_RUN.name)
    prepared.slurm.wait(job, "COMPLETED")
    assert prepared.status()["status"] == "stopped"
    assert prepared.slurm.job(job, "Restarts") == "0"


def test_a_node_that_slurm_gives_up_leaves_a_run_that_resumes(prepared: Prepared, uncut: Outcome) -> None:
    job, slurm = prepared.submit(), prepared.slurm
    prepared.wait_for_steps(5)
    slurm.ask("scontrol", "update", f"nodename={NODES[1]}", "state=down", "reason=test")
    prepared.wait_for_restart(job)
    slurm.ask("scontrol", "update", f"nodename={NODES[1]}", "state=resume")
    prepared.finishes_like(uncut, job)
    assert prepared.ends() == ["stopped", "finished"]


def test_a_node_whose_power_fails_is_waited_for(prepared: Prepared, uncut: Outcome) -> None:
    job, slurm = prepared.submit(), prepared.slurm
    prepared.wait_for_steps(5)
    slurm.switch_off(NODES[1])
    prepared.wait_for_restart(job)
    slurm.switch_on(NODES[1])
    prepared.finishes_like(uncut, job)
    assert prepared.ends()[0] == "machine_lost"
