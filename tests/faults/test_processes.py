"""Processes of a run that are killed, stopped, or misbehave: the right rank and the right reason, and nothing lost."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.contract import events
from engine.contract.stream import EventReader
from engine.training import checkpoint
from tests.engine.models.causal.small import chatty
from tests.faults.runs_with_faults import Runs
from tests.faults.scenarios import ScenarioTable
from tests.processes import LIMIT, end_runs, until

TWO: dict[str, Any] = {"num_processes": 2, "gradient_accumulation_steps": 4}
NewRuns = Callable[[str], Runs]


@pytest.fixture
def new_runs(tmp_path: Path, tiny_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[NewRuns]:
    """A folder of its own for a run."""

    def make(name: str) -> Runs:
        (tmp_path / name).mkdir()
        return Runs(tmp_path / name, tiny_settings, monkeypatch)

    yield make
    end_runs(tmp_path)


REASONS = {
    "raise": ("failed", "the shelf is empty"),
    "memory": ("out_of_memory", "MemoryError"),
    "exit": ("failed", "exited with code 0"),
    "kill": ("killed", "SIGKILL"),
    "crash": ("failed", "SIGSEGV"),
    "sleep": ("hung", "no progress"),
    "stop": ("hung", "suspended"),
    "gpu_memory": ("out_of_gpu_memory", "2.15 GB more was needed, and 1.34 GB of its 12.63 GB were free"),
    "gpu": ("gpu_failed", "unspecified launch failure"),
}
HANGS: dict[str, Any] = {"hang_seconds": 5}
SLOW = ("exit", "crash", "stop", "gpu_memory", "gpu")
ONCE = [(what, number % 2, 3) for number, what in enumerate(REASONS) if what not in SLOW]
AGAIN = [(what, rank, 3) for what in SLOW for rank in (0, 1)]
AGAIN += [(what, 1 - rank, step) for what, rank, step in ONCE] + [
    (what, rank, step) for what in ("raise", "exit", "kill", "sleep", "stop") for rank in (0, 1) for step in (1, 7)
]


def blamed(new_runs: NewRuns, table: ScenarioTable, what: str, rank: int, step: int) -> None:
    """Runs with the fault and checks whom the certificate blames, and that the run can continue."""
    one = new_runs("run")
    soon = HANGS if what in ("sleep", "stop") else {}  # what only takes long does not hang
    end = one.ended(one.start({"what": what, "rank": rank, "step": step}, **TWO, **soon))
    reason, words = REASONS[what]
    right = end.reason == reason and f"Rank {rank}" in end.message.what() and words in end.message.what()
    table.add("a rank raises, leaves early, is killed, hangs or is stopped", 1, not right)
    assert right, end
    assert end.exit_code == 1
    assert "sft-tui resume sft-small-1" in end.message.fix()
    if what in ("sleep", "stop"):
        assert "trainer.py" in end.evidence[f"stacks_rank{rank}"]  # where it stood
        assert all(stacks.endswith("in _run_module_as_main\n") for stacks in end.evidence.values())
    if what in ("memory", "gpu_memory"):
        assert end.apply == {"micro_batch_tokens": one.settings["micro_batch_tokens"] // 2}


@pytest.mark.parametrize(("what", "rank", "step"), ONCE)
def test_the_rank_that_failed_is_named(
    new_runs: NewRuns, table: ScenarioTable, what: str, rank: int, step: int
) -> None:
    blamed(new_runs, table, what, rank, step)


@pytest.mark.slow
@pytest.mark.parametrize(("what", "rank", "step"), AGAIN)
def test_the_rank_that_failed_is_named_at_any_step(
    new_runs: NewRuns, table: ScenarioTable, what: str, rank: int, step: int
) -> None:
    blamed(new_runs, table, what, rank, step)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_of_a_divided_model_the_rank_that_hangs_is_named(new_runs: NewRuns, tmp_path: Path, rank: int) -> None:
    """The other one waits for it in the middle of a layer."""
    one = new_runs("run")
    divided = {**chatty(tmp_path, "llama"), "shard": "full", "num_processes": 2, **HANGS}
    end = one.ended(one.start({"what": "sleep", "rank": rank, "step": 3}, **divided))
    assert end.reason == "hung"
    assert f"Rank {rank}" in end.message.what(), end


def test_a_rank_with_nan_is_named_with_its_rows(new_runs: NewRuns, table: ScenarioTable) -> None:
    one = new_runs("run")
    end = one.ended(one.start({"what": "nan", "rank": 1, "step": 4}, **TWO))
    assert (end.reason, end.exit_code) == ("diverged", 1)
    assert "Diverged at step 4 on rank 1: loss nan" in end.message.what()
    rows = {int(row) for row in end.evidence["rows_rank1"].split(", ")}
    assert rows
    assert rows < set(range(40))
    assert one.output.checkpoint_steps()[0] == 3
    assert end.apply == {"learn_rate": one.settings["learn_rate"] / 2}
    again = one.ended(one.resume(fix=end.apply))
    assert again.reason == "finished"
    table.add("NaN on one rank", 1, 0)


def kill_whole_tree(one: Runs) -> None:
    """Every process of the run at once, the supervisor first, so that it cannot speak for the others."""
    for who in ("supervisor", 0):
        one.kill(who)


VICTIMS: dict[str, Callable[[Runs], None]] = {
    "rank 0": lambda one: one.kill(0),
    "the supervisor": lambda one: one.kill("supervisor"),
    "the whole tree": kill_whole_tree,
}
SAVE_EVERY = 3


def killed_again_and_again(new_runs: NewRuns, table: ScenarioTable, tries: int, seed: int) -> None:
    """One run, killed this many times at random moments, half of them inside a save, and then left to finish."""
    chance = random.Random(seed)
    longer: dict[str, Any] = {"epochs": 8 + tries, "save_steps": SAVE_EVERY}
    whole, cut = new_runs("whole"), new_runs("cut")
    assert whole.ended(whole.start(**longer)).reason == "finished"
    started, lost = cut.start({"slow_save": 0.02}, **longer), dict.fromkeys(VICTIMS, 0)
    count = dict.fromkeys(VICTIMS, 0)
    for number in range(tries):
        name = list(VICTIMS)[number % len(VICTIMS)]
        until(cut.trains(number + 1), LIMIT)
        deadline = time.monotonic() + chance.uniform(0, 0.4)
        until(lambda end=deadline: time.monotonic() > end, 5)  # type: ignore[misc]
        if number % 2 == 0:
            until(lambda: inside_a_save(cut) or not cut.look().alive, LIMIT)
        VICTIMS[name](cut)
        cut.ended(started)
        count[name] += 1
        lost[name] += what_was_lost(cut)
        started = cut.resume({"slow_save": 0.02})
    assert cut.ended(started).reason == "finished"
    for name in VICTIMS:
        table.add(f"kill -9 of {name}", count[name], lost[name])
    assert sum(lost.values()) == 0
    assert cut.steps() == whole.steps()
    for file in ("trained.safetensors", "optimizer.safetensors"):
        last = max(whole.steps())
        one, other = (each.output.checkpoint(last) / file for each in (cut, whole))
        assert one.read_bytes() == other.read_bytes()


def inside_a_save(one: Runs) -> bool:
    """Whether a save is under way."""
    return any(one.output.checkpoints.glob(".tmp-sft-step-*"))


def what_was_lost(one: Runs) -> int:
    """Acknowledged checkpoints that are not sound any more, and steps lost beyond the interval between saves.

    A checkpoint is acknowledged by its event, and can be gone on from as soon as it has its name: a run killed in
    between, and once more after it has gone on, has lost nothing.
    """
    newest = max(one.acknowledged(), default=0)
    sound = [step for step in one.output.checkpoint_steps() if checkpoint.verify(one.output.checkpoint(step))]
    reached = max(one.steps(), default=0)
    return (newest > 0 and newest not in sound) + (reached - max(sound, default=0) > SAVE_EVERY)


@pytest.mark.usefixtures("cuts_saves")
def test_a_kill_at_any_moment_loses_nothing_acknowledged(new_runs: NewRuns, table: ScenarioTable) -> None:
    killed_again_and_again(new_runs, table, tries=len(VICTIMS), seed=1)


@pytest.mark.slow
@pytest.mark.usefixtures("cuts_saves")
@pytest.mark.parametrize("seed", [2, 3, 4])
def test_a_hundred_kills_lose_nothing_acknowledged(new_runs: NewRuns, table: ScenarioTable, seed: int) -> None:
    killed_again_and_again(new_runs, table, tries=33, seed=seed)


@pytest.mark.slow
def test_two_ranks_whose_supervisor_is_killed_save_and_resume(new_runs: NewRuns, table: ScenarioTable) -> None:
    whole, cut = new_runs("whole"), new_runs("cut")
    assert whole.ended(whole.start(**TWO, epochs=6)).reason == "finished"
    started = cut.start(**TWO, epochs=6, save_steps=1000)
    until(cut.trains(1, 3), LIMIT)
    cut.kill("supervisor")
    killed_at = time.monotonic()
    end = cut.ended(started)
    assert time.monotonic() - killed_at < 10
    assert end.reason == "orphaned"
    assert cut.output.checkpoint_steps()[0] == max(cut.steps())
    assert cut.ended(cut.resume()).reason == "finished"
    assert cut.steps() == whole.steps()
    table.add("kill -9 of the supervisor of two ranks", 1, 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_to_the_supervisor_saves_and_stops(
    new_runs: NewRuns, table: ScenarioTable, number: signal.Signals
) -> None:
    one = new_runs("run")
    started = one.start(epochs=2000, save_steps=100_000)
    until(one.trains(1, 3), LIMIT)
    one.kill("supervisor", signal.SIGHUP)  # does nothing
    one.kill("supervisor", number)
    end = one.ended(started)
    assert (end.reason, end.exit_code, started.supervisor.returncode) == ("stopped", 0, 0)
    step = one.output.checkpoint_steps()[0]
    assert step == max(one.steps())
    checkpoint.verify(one.output.checkpoint(step))
    table.add("SIGTERM, SIGINT, SIGHUP to the supervisor", 1, 0)


def supervisor_first(one: Runs) -> None:
    for who in ("supervisor", 0, 1):
        one.kill(who, signal.SIGTERM)


def ranks_first(one: Runs) -> None:
    for who in (1, 0, "supervisor"):
        one.kill(who, signal.SIGTERM)


def whole_group(one: Runs) -> None:
    os.killpg(one.process("supervisor").pid, signal.SIGTERM)


ORDERS = (supervisor_first, ranks_first, whole_group)


def shut_down_again_and_again(new_runs: NewRuns, table: ScenarioTable, tries: int) -> None:
    """One run of two ranks, shut down this many times as systemd, Slurm and a reboot do, at random moments."""
    chance, one, lost = random.Random(5), new_runs("run"), 0
    for number in range(tries):
        started = one.resume() if number else one.start(**TWO, epochs=2000, save_steps=100_000)
        until(one.trains(number + 1, 2), LIMIT)
        deadline = time.monotonic() + chance.uniform(0, 0.3)
        until(lambda end=deadline: time.monotonic() > end, 5)  # type: ignore[misc]
        ORDERS[number % len(ORDERS)](one)
        end = one.ended(started)
        saved = one.output.checkpoint_steps()
        lost += end.reason != "stopped" or not saved or saved[0] != max(one.steps())
    table.add("SIGTERM to supervisor and ranks at once", tries, lost)
    assert lost == 0


def test_a_shutdown_that_signals_every_process_at_once_saves(new_runs: NewRuns, table: ScenarioTable) -> None:
    shut_down_again_and_again(new_runs, table, tries=2)  # in either order


@pytest.mark.slow
def test_twenty_shutdowns_save_twenty_times(new_runs: NewRuns, table: ScenarioTable) -> None:
    shut_down_again_and_again(new_runs, table, tries=20)


def test_a_shutdown_while_the_trainer_starts_is_a_stop(new_runs: NewRuns, table: ScenarioTable) -> None:
    one = new_runs("run")
    started = one.start(epochs=2000)
    until(lambda: one.run_dir.processes.exists(), LIMIT)
    whole_group(one)
    end = one.ended(started)
    table.add("SIGTERM to every process while it starts", 1, end.reason != "stopped")
    assert (end.reason, end.exit_code) == ("stopped", 0)


def test_readings_of_every_rank_and_the_host_are_in_the_stream(new_runs: NewRuns) -> None:
    one = new_runs("run")
    started = one.start(**TWO, epochs=2000)
    until(one.trains(1, 1), LIMIT)
    reader = EventReader(one.run_dir.events)

    def sampled() -> bool:
        hosts = [record.event for record in reader.poll() if isinstance(record.event, events.Host)]
        return any(min(host.rank_memory) > 50 << 20 and host.memory_available > 0 for host in hosts)

    until(sampled, LIMIT)
    one.run_dir.request_stop()
    assert one.ended(started).reason == "stopped"
