"""Hostile checkpoints: nothing in them is executed, they are skipped and named."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from engine.contract import events
from engine.contract.bounds import as_json
from engine.contract.events import Record
from engine.contract.manifest import MANIFEST
from engine.contract.outputdir import OutputDir
from engine.training import checkpoint
from tests.faults.hostile import BOMBS, LIES, PICKLES, write_bomb, zipped
from tests.faults.invariants import assert_damage_is_found
from tests.faults.scenarios import ScenarioTable
from tests.faults.untrusted_runs import UntrustedRuns

FILES = [
    MANIFEST,
    checkpoint.OPTIMIZER,
    checkpoint.WEIGHTS,
    checkpoint.MODEL_CONFIG,
    checkpoint.GENERATION_CONFIG,
]


@pytest.fixture(scope="module")
def trained(tiny_settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a run that was stopped after its second step; only to be copied."""
    one = UntrustedRuns(tmp_path_factory.mktemp("trained"), tiny_settings)
    run_dir = one.run_dir(epochs=1)

    def stop(record: Record) -> None:
        if isinstance(record.event, events.Step) and record.event.step == 1:
            run_dir.request_stop()

    outcome = one.train(run_dir, stop)
    assert outcome.ended.reason == "stopped"
    assert one.output.checkpoint_steps() == [2, 1]
    return one.output.path


@pytest.fixture
def stopped(trained: Path, untrusted: UntrustedRuns) -> OutputDir:
    """A copy of `trained` that others may write to."""
    shutil.copytree(trained, untrusted.output.path)
    return untrusted.output


@pytest.mark.parametrize("name", FILES)
def test_a_pickle_in_a_checkpoint_is_not_run(
    untrusted: UntrustedRuns, stopped: OutputDir, table: ScenarioTable, name: str
) -> None:
    zipped(stopped.checkpoint(2) / name, untrusted.canary)
    with table.scenario("code in a checkpoint") as tries, tries.one(name):
        untrusted.assert_skipped(name)


@pytest.mark.parametrize("kind", PICKLES)
def test_a_pickle_in_place_of_the_state_is_not_run(
    untrusted: UntrustedRuns, stopped: OutputDir, table: ScenarioTable, kind: str
) -> None:
    """The optimizer's, which other trainers keep in a pickle."""
    PICKLES[kind](stopped.checkpoint(2) / checkpoint.OPTIMIZER, untrusted.canary)
    with table.scenario("code in a checkpoint") as tries, tries.one(kind):
        untrusted.assert_skipped(checkpoint.OPTIMIZER)


def test_a_pickle_in_place_of_the_frozen_weights_is_not_run(
    untrusted: UntrustedRuns, stopped: OutputDir, table: ScenarioTable
) -> None:
    """All checkpoints share them: it starts over."""
    zipped(next((stopped.checkpoints / "frozen").iterdir()), untrusted.canary)
    with table.scenario("code in a checkpoint") as tries, tries.one("frozen weights"):
        untrusted.assert_skipped("frozen", skipped=[2, 1])


@pytest.mark.parametrize("kind", PICKLES)
@pytest.mark.parametrize("name", [checkpoint.OPTIMIZER, checkpoint.WEIGHTS])
def test_a_pickle_listed_in_the_manifest_is_not_run(
    untrusted: UntrustedRuns, stopped: OutputDir, table: ScenarioTable, name: str, kind: str
) -> None:
    """Anyone who writes to the folder can make the hashes right: even so nothing is executed."""
    folder = stopped.checkpoint(2)
    PICKLES[kind](folder / name, untrusted.canary)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][name] = as_json(checkpoint.describe(folder / name))
    del manifest["sha256"]
    own = checkpoint._own_hash(manifest)
    (folder / MANIFEST).write_text(json.dumps({**manifest, "sha256": own}))
    assert checkpoint.verify(folder)
    with table.scenario("code in a checkpoint with the right hashes") as tries, tries.one(f"{kind} {name}"):
        outcome = untrusted.train(untrusted.run_dir(resume=True, epochs=1))
        assert not untrusted.canary.exists(), "code in the file was executed"
        assert outcome.code != 0


@pytest.mark.parametrize("bomb", ["deep lists", "a huge value"])
def test_an_excessive_manifest_is_refused(
    untrusted: UntrustedRuns, stopped: OutputDir, table: ScenarioTable, bomb: str
) -> None:
    write_bomb(stopped.checkpoint(2) / MANIFEST, bomb)
    with table.scenario("JSON that is too much, in a checkpoint") as tries, tries.one(f"a run: {bomb}"):
        untrusted.assert_skipped(MANIFEST)


# To a run all of these are the same, for it goes by what the search for a checkpoint says.


@pytest.mark.parametrize("name", [MANIFEST, checkpoint.MODEL_CONFIG, checkpoint.GENERATION_CONFIG])
def test_excessive_json_is_refused(stopped: OutputDir, table: ScenarioTable, name: str) -> None:
    with table.scenario("JSON that is too much, in a checkpoint") as tries:
        for bomb in BOMBS:
            write_bomb(stopped.checkpoint(2) / name, bomb)
            with tries.one(f"{name}: {bomb}"):
                assert_damage_is_found(stopped, 2, 1, name)


@pytest.mark.parametrize("name", [checkpoint.WEIGHTS, checkpoint.OPTIMIZER])
def test_tensors_with_false_headers_are_refused(stopped: OutputDir, table: ScenarioTable, name: str) -> None:
    with table.scenario("tensors with a header that lies, in a checkpoint") as tries:
        for lie, content in LIES.items():
            (stopped.checkpoint(2) / name).write_bytes(content)
            with tries.one(f"{name}: {lie}"):
                assert_damage_is_found(stopped, 2, 1, name)


def test_frozen_weights_with_false_headers_are_refused(stopped: OutputDir, table: ScenarioTable) -> None:
    (frozen,) = (stopped.checkpoints / "frozen").iterdir()
    with table.scenario("tensors with a header that lies, in a checkpoint") as tries:
        for lie, content in LIES.items():
            frozen.write_bytes(content)
            with tries.one(f"frozen weights: {lie}"):
                assert_damage_is_found(stopped, 2, None, "frozen")
