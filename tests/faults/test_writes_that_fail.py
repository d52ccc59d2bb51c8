"""Every write, fsync and rename of a save, of a publication and of a record fails once; nothing is ever lost."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from engine.contract.durable import write_json
from engine.contract.manifest import Manifest
from engine.contract.outputdir import OutputDir
from tests.faults.failing_calls import Calls
from tests.faults.invariants import (
    NEW,
    OLD,
    Fault,
    assert_flushed_before_published,
    assert_folders_are_flushed,
    assert_survives_a_publication,
    assert_survives_a_record,
    assert_survives_a_save,
    every_call_fails,
)
from tests.faults.saver import Saver, order_for_third, running, strace, strace_works
from tests.faults.saver_program import FAILING, RECORD
from tests.faults.scenarios import ScenarioTable, Tries
from tests.faults.tiny import Tiny, add_damaged, copy, frozen_entry
from tests.required import required

ERRORS = (errno.ENOSPC, pytest.param(errno.EIO, marks=pytest.mark.slow))


@pytest.fixture
def fresh(tmp_path: Path) -> OutputDir:
    """An output folder in which nothing was saved yet."""
    return OutputDir(tmp_path / "fresh")


# In this process, by putting something else in the place of the calls.


@pytest.mark.parametrize("number", ERRORS, ids=os.strerror)
def test_a_save_survives_a_failure_of_every_call(
    tiny: Tiny, two_saved: Path, tmp_path: Path, table: ScenarioTable, number: int
) -> None:
    output = OutputDir(tmp_path / "output")

    def check(fault: Fault) -> None:
        assert_survives_a_save(fault, output, tiny.writer(output), 3, [1, 2])

    with table.scenario("a call of a save fails, in process") as tries:
        every_call_fails(tries, number, output.checkpoints, lambda: copy(two_saved, output.path), check)


@pytest.mark.parametrize("number", ERRORS, ids=os.strerror)
def test_the_first_save_survives_a_failure_of_every_call(
    tiny: Tiny, fresh: OutputDir, table: ScenarioTable, number: int
) -> None:
    def check(fault: Fault) -> None:
        assert_survives_a_save(fault, fresh, tiny.writer(fresh), 1, [])

    with table.scenario("a call of the first save fails, in process") as tries:
        every_call_fails(tries, number, fresh.path, lambda: shutil.rmtree(fresh.path, ignore_errors=True), check)


@pytest.mark.parametrize("keep", [3, pytest.param(2, marks=pytest.mark.slow)])
def test_a_replacing_save_survives_a_failure_of_every_call(
    tiny: Tiny, two_saved: Path, tmp_path: Path, table: ScenarioTable, keep: int
) -> None:
    """Two sound checkpoints are left, whatever else there is."""
    output = OutputDir(tmp_path / "output")

    def prepare() -> None:
        add_damaged(copy(two_saved, output.path), tiny)

    def check(fault: Fault) -> None:
        assert_survives_a_save(fault, output, tiny.writer(output, keep=keep), 3, [1, 2], damaged=[3])

    with table.scenario(f"a call of a save over a damaged one fails, {keep} kept, in process") as tries:
        every_call_fails(tries, errno.ENOSPC, output.checkpoints, prepare, check)


@pytest.mark.parametrize("number", ERRORS, ids=os.strerror)
@pytest.mark.parametrize("old", [1.0, None], ids=["better", "first"])
def test_a_publication_survives_a_failure_of_every_call(
    tiny: Tiny, two_saved: Path, tmp_path: Path, table: ScenarioTable, number: int, old: float | None
) -> None:
    output = OutputDir(tmp_path / "output")

    def prepare() -> None:
        copy(two_saved, output.path)
        if old is None:
            shutil.rmtree(output.best)

    def check(fault: Fault) -> None:
        assert_survives_a_publication(fault, output, tiny, old)

    with table.scenario("a call of a publication fails, in process") as tries:
        every_call_fails(tries, number, output.path, prepare, check)


@pytest.mark.parametrize("number", ERRORS, ids=os.strerror)
def test_a_record_survives_a_failure_of_every_call(output: OutputDir, table: ScenarioTable, number: int) -> None:
    with table.scenario("a call of a JSON record fails, in process") as tries:
        every_call_fails(
            tries,
            number,
            output.path,
            lambda: write_json(output.owner_file, OLD),
            lambda fault: assert_survives_a_record(fault, output),
            ("open", *RECORD),
        )


# The order of the calls, which is what counts where the power fails.


def test_a_save_is_flushed_before_it_is_published(tiny: Tiny, output: OutputDir, fresh: OutputDir) -> None:
    assert_flushed_before_published(output, tiny.writer(output, frozen=frozen_entry(output)), 3)
    assert_flushed_before_published(fresh, tiny.writer(fresh), 1)


def test_the_folders_of_the_first_save_are_flushed(tiny: Tiny, fresh: OutputDir) -> None:
    fresh.path.mkdir()
    with Calls(fresh.path) as calls:
        tiny.writer(fresh).save(Manifest(step=1))
    assert_folders_are_flushed(calls.seen)


def test_a_record_is_flushed(output: OutputDir) -> None:
    with Calls(output.path) as calls:
        write_json(output.owner_file, NEW)
    renamed = calls.seen.index(("rename", output.owner_file))
    assert calls.seen[renamed - 1][0] == "fsync"
    assert ("fsync", output.path) in calls.seen[renamed:]


# Under strace, which lets the kernel's own calls fail: those of Python's buffers and the tokenizer's too.


@pytest.fixture(scope="module", params=ERRORS, ids=os.strerror)
def failing(request: pytest.FixtureRequest) -> Iterator[tuple[Saver, int]]:
    """A saver whose children find calls failing, and the number of the error."""
    required(strace_works(), "strace that may trace, to let the kernel's calls fail,")
    for saver in running(request, *strace(*(f"{call}:error={errno.errorcode[request.param]}" for call in FAILING))):
        yield saver, request.param


def every_call_fails_in_a_child(
    tries: Tries,
    failing: tuple[Saver, int],
    prepare: Callable[[], OutputDir],
    kinds: Sequence[str] = FAILING,
    **order: Any,
) -> None:
    """Has `order` carried out with every single call of these kinds failing in turn."""
    saver, number = failing
    for kind in kinds:

        def attempt(nth: int, kind: str = kind) -> tuple[bool, str]:
            reported = {**order, "folder": str(prepare().path), "kind": kind, "nth": nth, "number": number}
            report = saver.report_on(reported)
            return bool(report["hit"]), str(report["problem"])

        tries.every(f"{os.strerror(number)}, {kind}", attempt)


def test_a_save_survives_a_failure_of_every_system_call(
    failing: tuple[Saver, int], two_saved: Path, tmp_path: Path, table: ScenarioTable
) -> None:
    with table.scenario("a system call of a save fails") as tries:
        every_call_fails_in_a_child(
            tries, failing, lambda: copy(two_saved, tmp_path / "output"), **order_for_third(OutputDir(two_saved))
        )


def test_the_first_save_survives_every_failing_system_call(
    failing: tuple[Saver, int], fresh: OutputDir, table: ScenarioTable
) -> None:
    def prepare() -> OutputDir:
        shutil.rmtree(fresh.path, ignore_errors=True)
        return fresh

    with table.scenario("a system call of the first save fails") as tries:
        every_call_fails_in_a_child(tries, failing, prepare, do="save", step=1, acknowledged=[], frozen=None)


def test_a_publication_survives_every_failing_system_call(
    failing: tuple[Saver, int], two_saved: Path, tmp_path: Path, table: ScenarioTable
) -> None:
    with table.scenario("a system call of a publication fails") as tries:
        every_call_fails_in_a_child(tries, failing, lambda: copy(two_saved, tmp_path / "output"), do="publish")


def test_a_record_survives_every_failing_system_call(
    failing: tuple[Saver, int], two_saved: Path, tmp_path: Path, table: ScenarioTable
) -> None:
    def prepare() -> OutputDir:
        output = copy(two_saved, tmp_path / "output")
        write_json(output.owner_file, OLD)
        return output

    with table.scenario("a system call of a JSON record fails") as tries:
        every_call_fails_in_a_child(tries, failing, prepare, RECORD, do="record")
