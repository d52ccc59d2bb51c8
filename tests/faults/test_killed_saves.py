"""A process dies inside a save: a resume finds the last acknowledged checkpoint, cleans up, and continues."""

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from engine.contract.durable import read_json, write_json
from engine.contract.files import STAGED
from engine.contract.outputdir import OutputDir
from engine.training import checkpoint
from tests.faults.invariants import NEW, OLD, assert_best, assert_nothing_lost, assert_tidy
from tests.faults.saver import Saver, order_for_third, running, strace, strace_works
from tests.faults.saver_program import FAILING, IN_VAIN, RECORD
from tests.faults.scenarios import ScenarioTable, Tries
from tests.faults.tiny import Tiny, add_damaged, copy, frozen_entry, save_and_prune
from tests.required import required

SEED = 20


@pytest.fixture
def fresh(tmp_path: Path) -> OutputDir:
    """An output folder in which nothing was saved yet."""
    return OutputDir(tmp_path / "fresh")


@pytest.fixture(scope="module")
def saver(request: pytest.FixtureRequest) -> Iterator[Saver]:
    """A saver whose children are killed from outside."""
    yield from running(request)


@pytest.fixture(scope="module")
def killing(request: pytest.FixtureRequest) -> Iterator[Saver]:
    """A saver whose children are killed at a call."""
    required(strace_works(), "strace that may trace, to kill at every call,")
    yield from running(request, *strace(*(f"{call}:signal=SIGKILL" for call in IN_VAIN)))


# At every call.


def killed_at_every_call(
    tries: Tries,
    killing: Saver,
    prepare: Callable[[], OutputDir],
    check: Callable[[OutputDir], None],
    kinds: Sequence[str],
    **order: Any,
) -> None:
    """Has `order` carried out by a child that dies at every single call of these kinds in turn."""
    for kind in kinds:

        def attempt(nth: int, kind: str = kind) -> tuple[bool, str]:
            output = prepare()
            killing.order({**order, "folder": str(output.path), "kind": kind, "nth": nth, "number": 0})
            code = killing.ended()
            assert code in (0, -signal.SIGKILL)
            problem = ""
            try:
                check(output)
            except AssertionError as error:
                problem = str(error)
            return code != 0, problem

        tries.every(f"killed at {kind}", attempt)


def test_a_save_over_a_damaged_checkpoint_is_killed_at_every_call(
    killing: Saver, tiny: Tiny, two_saved: Path, tmp_path: Path, table: ScenarioTable
) -> None:
    def prepare() -> OutputDir:
        output = copy(two_saved, tmp_path / "output")
        add_damaged(output, tiny)
        return output

    def check(output: OutputDir) -> None:
        found, _ = checkpoint.newest_sound(output)
        assert found is not None
        assert_nothing_lost(output, [1, 2] if found.step == 2 else [2, 3])
        checkpoint.remove_leftovers(output)
        assert_tidy(output, damaged=[1, 3])  # cut short in its removal, or as it was before
        save_and_prune(tiny.writer(output, frozen=found.manifest.frozen), 3)
        assert_nothing_lost(output, [2, 3])
        assert_tidy(output)

    with table.scenario("killed at a system call of a save") as tries:
        killed_at_every_call(tries, killing, prepare, check, tuple(IN_VAIN), **order_for_third(OutputDir(two_saved)))


def test_the_first_save_is_killed_at_every_call(
    killing: Saver, tiny: Tiny, fresh: OutputDir, table: ScenarioTable
) -> None:
    def prepare() -> OutputDir:
        shutil.rmtree(fresh.path, ignore_errors=True)
        return fresh

    def check(output: OutputDir) -> None:
        assert_nothing_lost(output, [], attempted=1)
        checkpoint.remove_leftovers(output)
        assert_tidy(output)
        save_and_prune(tiny.writer(output, frozen=frozen_entry(output)), 2)
        assert_nothing_lost(output, [2])
        assert_tidy(output)

    with table.scenario("killed at a system call of the first save") as tries:
        killed_at_every_call(tries, killing, prepare, check, FAILING, do="save", step=1, frozen=None)


def test_a_publication_is_killed_at_every_call(
    killing: Saver, tiny: Tiny, two_saved: Path, tmp_path: Path, table: ScenarioTable
) -> None:
    def check(output: OutputDir) -> None:
        checkpoint.remove_leftovers(output)
        checkpoint.restore_best(output)
        assert_best(output, [1.0, 2.0])
        assert_tidy(output)
        tiny.publish(output, 3.0)
        assert_best(output, [3.0])
        assert_tidy(output)

    with table.scenario("killed at a system call of a publication") as tries:
        killed_at_every_call(
            tries, killing, lambda: copy(two_saved, tmp_path / "output"), check, tuple(IN_VAIN), do="publish"
        )


def test_a_record_is_killed_at_every_call(
    killing: Saver, two_saved: Path, tmp_path: Path, table: ScenarioTable
) -> None:
    def prepare() -> OutputDir:
        output = copy(two_saved, tmp_path / "output")
        write_json(output.owner_file, OLD)
        return output

    def check(output: OutputDir) -> None:
        assert read_json(output.owner_file) in (OLD, NEW)
        checkpoint.remove_leftovers(output)
        assert_tidy(output)

    with table.scenario("killed at a system call of a JSON record") as tries:
        killed_at_every_call(tries, killing, prepare, check, RECORD, do="record")


# At random moments.


@dataclass
class Killed:
    """Children that save forever, killed one after the other at random moments in the same folder."""

    saver: Saver
    output: OutputDir
    random: random.Random
    acknowledged: list[int] = field(default_factory=list)
    pace: float = 0.02  # seconds from one save to the next

    def again(self) -> bool:
        """Lets one more child save for a while and kills it; whether that was inside a save."""
        pid = self.saver.order({"do": "save_for_ever", "folder": str(self.output.path)})
        for _ in range(self.random.randrange(4)):
            began = time.monotonic()
            self._note(self.saver.expect("saved"))
            self.pace = time.monotonic() - began
        moment = time.monotonic() + self.random.uniform(0, 2 * self.pace)
        while (line := self.saver.line_before(moment)) is not None:
            self._note(line)
        os.kill(pid, signal.SIGKILL)
        while not (line := self.saver.line()).startswith("ended"):
            self._note(line)
        assert line == f"ended {-signal.SIGKILL}"
        return any(self.output.checkpoints.glob(f"{STAGED}*"))

    def _note(self, line: str) -> None:
        word, step = line.split()
        assert word == "saved", line
        self.acknowledged.append(int(step))

    def check(self) -> None:
        """The two newest that were acknowledged are sound; the one after them may be whole already.

        Then the next child continues from it and counts it among the two it keeps, so from now on it must exist.
        """
        newest = max(self.acknowledged, default=0)
        assert_nothing_lost(self.output, self.acknowledged[-2:], attempted=newest + 1)
        found, _ = checkpoint.newest_sound(self.output)
        if found is not None and found.step > newest:
            self.acknowledged.append(found.step)


def killed_again_and_again(saver: Saver, folder: Path, times: int, table: ScenarioTable) -> None:
    """Kills children until that was inside a save this many times."""
    chance, inside = random.Random(SEED), 0
    with (
        table.scenario("killed inside a save, at a random moment") as cut,
        table.scenario("killed between two saves, at a random moment") as between,
    ):
        killed = Killed(saver, OutputDir(folder / "0"), chance)
        for number in range(20 * times):
            if chance.random() < 0.2:  # the first save of a run is not like the others
                killed = Killed(saver, OutputDir(folder / str(number)), chance)
            was_inside = killed.again()
            inside += was_inside
            with (cut if was_inside else between).one(f"{number}, after step {max(killed.acknowledged, default=0)}"):
                killed.check()
            if inside == times:
                return
    raise AssertionError(f"only {inside} of {20 * times} kills were inside a save")


@pytest.mark.usefixtures("cuts_saves")
def test_no_checkpoint_is_lost_when_a_save_is_killed(saver: Saver, tmp_path: Path, table: ScenarioTable) -> None:
    killed_again_and_again(saver, tmp_path, 40, table)


@pytest.mark.slow
@pytest.mark.usefixtures("cuts_saves")
def test_no_checkpoint_is_lost_when_many_saves_are_killed(saver: Saver, tmp_path: Path, table: ScenarioTable) -> None:
    killed_again_and_again(saver, tmp_path, 1000, table)
