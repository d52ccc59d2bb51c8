"""The checks of these tests can fail: each of them does where the code of the checkpoints is made worse on purpose."""

import errno
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from safetensors import torch as safetensors_torch

from engine.contract.durable import write_json
from engine.contract.files import STAGED
from engine.contract.manifest import MANIFEST, HashedFile, Manifest, read_manifest
from engine.contract.messages import Message
from engine.contract.outputdir import OutputDir
from engine.training import checkpoint
from engine.training.checkpoint import CheckpointWriter, FoundCheckpoint, Saved
from tests.faults import invariants
from tests.faults.failing_calls import Calls, unreadable
from tests.faults.invariants import (
    OLD,
    assert_damage_is_found,
    assert_flushed_before_published,
    assert_nothing_lost,
    assert_survives_a_publication,
    assert_survives_a_record,
    assert_survives_a_save,
)
from tests.faults.scenarios import ScenarioTable
from tests.faults.tiny import Tiny, copy, frozen_entry, save_and_prune

Check = Callable[[Tiny, OutputDir], None]
Mutate = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Mutant:
    """A way to make the code worse, the check that has to notice it, and what it says then, as a pattern."""

    mutate: Mutate
    check: Check
    says: str


# The checks, all on an output folder with the checkpoints of steps 1 and 2 and a best model marked 1.0.


def flushed(tiny: Tiny, output: OutputDir) -> None:
    """A save flushes everything in time."""
    assert_flushed_before_published(output, tiny.writer(output), 3)


def survives(kind: str, nth: int = 1) -> Check:
    """A save survives that its `nth` call of a kind fails."""

    def check(tiny: Tiny, output: OutputDir) -> None:
        writer = tiny.writer(output, frozen=frozen_entry(output))
        fault = Calls(output.checkpoints, kind, nth, errno.ENOSPC)
        assert_survives_a_save(fault, output, writer, 3, [1, 2])
        assert fault.hit

    return check


def best_survives(nth: int) -> Check:
    """The best model survives that the `nth` rename of a publication fails."""

    def check(tiny: Tiny, output: OutputDir) -> None:
        fault = Calls(output.path, "rename", nth, errno.EIO)
        assert_survives_a_publication(fault, output, tiny, 1.0)
        assert fault.hit

    return check


def flip(path: Path) -> None:
    """Flips one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def flipped(name: str) -> Check:
    """A flipped bit in this file of the newest checkpoint is found."""

    def check(_tiny: Tiny, output: OutputDir) -> None:
        flip(output.checkpoint(2) / name)
        assert_damage_is_found(output, 2, 1, name)

    return check


def frozen_flipped(_tiny: Tiny, output: OutputDir) -> None:
    """A flipped bit in the weights that do not learn is found."""
    flip(next((output.checkpoints / "frozen").iterdir()))
    assert_damage_is_found(output, 2, None, "frozen")


def changed_manifest(_tiny: Tiny, output: OutputDir) -> None:
    """A manifest that is good JSON, and not the one that was written, is found."""
    path = output.checkpoint(2) / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), "world_size": 7}))
    assert_damage_is_found(output, 2, 1, MANIFEST)


def unreadable_weights(_tiny: Tiny, output: OutputDir) -> None:
    """A bad sector under the weights is found."""
    with unreadable(output.checkpoint(2) / checkpoint.WEIGHTS):
        assert_damage_is_found(output, 2, 1, checkpoint.WEIGHTS)


def two_are_left(tiny: Tiny, output: OutputDir) -> None:
    """Two sound checkpoints are left with a damaged one between them."""
    tiny.writer(output, frozen=frozen_entry(output)).save(Manifest(step=3))
    flip(output.checkpoint(3) / checkpoint.WEIGHTS)
    save_and_prune(tiny.writer(output, frozen=frozen_entry(output)), 4)
    assert_nothing_lost(output, [2, 4])


def record_survives(_tiny: Tiny, output: OutputDir) -> None:
    """A JSON file survives that it cannot be written over."""
    write_json(output.owner_file, OLD)
    assert_survives_a_record(Calls(output.path, "write", 1, errno.ENOSPC), output)


def newest_is_taken(_tiny: Tiny, output: OutputDir) -> None:
    """Of two sound checkpoints the newest is taken."""
    assert_nothing_lost(output, [1, 2])


# The mutants.


def without_flush(which: Callable[[Path], bool], name: str = "_sync_file") -> Mutate:
    """`name` flushes nothing of what `which` chooses."""

    def mutate(patch: pytest.MonkeyPatch) -> None:
        real: Callable[[Path], None] = getattr(checkpoint, name)
        patch.setattr(checkpoint, name, lambda path: None if which(path) else real(path))

    return mutate


def flush_after_rename(patch: pytest.MonkeyPatch) -> None:
    """Everything is flushed, but only after the checkpoint has its name."""
    sync, rename, waiting = checkpoint._sync_file, Path.rename, list[str]()

    def renamed(path: Path, target: Path) -> Path:
        done = rename(path, target)
        for name in waiting:
            if (done / name).exists():
                sync(done / name)
        return done

    patch.setattr(checkpoint, "_sync_file", lambda path: waiting.append(path.name))
    patch.setattr(Path, "rename", renamed)


def verify_sizes_alone(patch: pytest.MonkeyPatch) -> None:
    """No hash is compared."""

    def verify(path: Path) -> Manifest:
        manifest = checkpoint._read_manifest(path)
        for name, entry in manifest.files.items():
            if (path / name).stat().st_size != entry.size:
                raise ValueError(f"{name} has another size")
        return manifest

    patch.setattr(checkpoint, "verify", verify)


def verify_without_frozen(patch: pytest.MonkeyPatch) -> None:
    """The frozen weights are taken as they are."""
    real = checkpoint.describe

    def describe(path: Path) -> HashedFile:
        if path.parent.name == "frozen":
            return HashedFile(path.stat().st_size, path.stem)
        return real(path)

    patch.setattr(checkpoint, "describe", describe)


def manifest_as_it_is(patch: pytest.MonkeyPatch) -> None:
    """The manifest's own hash is not compared."""

    def read(path: Path) -> Manifest:
        return read_manifest(path)

    patch.setattr(checkpoint, "_read_manifest", read)


def verify_swallows(patch: pytest.MonkeyPatch) -> None:
    """What cannot be read is taken for sound."""
    real = checkpoint.verify

    def verify(path: Path) -> Manifest:
        try:
            return real(path)
        except OSError:
            return checkpoint._read_manifest(path)

    patch.setattr(checkpoint, "verify", verify)


def skip_silently(patch: pytest.MonkeyPatch) -> None:
    """A skipped checkpoint is not reported."""
    real = checkpoint.newest_sound

    def newest_sound(output: OutputDir) -> tuple[FoundCheckpoint | None, list[Message]]:
        return real(output)[0], []

    patch.setattr(checkpoint, "newest_sound", newest_sound)


def give_up_at_the_first(patch: pytest.MonkeyPatch) -> None:
    """A damaged checkpoint ends the search."""
    real = OutputDir.checkpoint_steps
    patch.setattr(OutputDir, "checkpoint_steps", lambda self: real(self)[:1])


def oldest_first(patch: pytest.MonkeyPatch) -> None:
    """The search begins at the wrong end."""
    real = OutputDir.checkpoint_steps
    patch.setattr(OutputDir, "checkpoint_steps", lambda self: real(self)[::-1])


def load_first(patch: pytest.MonkeyPatch) -> None:
    """Tensors are read before anything is verified."""
    real = checkpoint.verify

    def verify(path: Path) -> Manifest:
        safetensors_torch.load_file(path / checkpoint.OPTIMIZER)
        return real(path)

    patch.setattr(checkpoint, "verify", verify)


def replace_save(save: Callable[[CheckpointWriter, Manifest], Saved]) -> Mutate:
    """Saves in another way."""
    return lambda patch: patch.setattr(CheckpointWriter, "save", save)


real_save = CheckpointWriter.save


def save_after_prune(self: CheckpointWriter, about: Manifest) -> Saved:
    """Room is made before the new checkpoint is there."""
    self.prune(about.step, best_step=-1)
    for step in self._output.checkpoint_steps()[self._keep - 1 :]:
        shutil.rmtree(self._output.checkpoint(step))
    return real_save(self, about)


def save_in_place(self: CheckpointWriter, about: Manifest) -> Saved:
    """The folder has its name from the beginning."""
    final = self._output.checkpoint(about.step)
    final.mkdir(parents=True)
    manifest = replace(about, files=self._write_files(final), frozen=self.write_frozen()).to_json()
    text = json.dumps({**manifest, "sha256": checkpoint._own_hash(manifest)})
    checkpoint._write_text(final / MANIFEST, text)
    return Saved(final, 0, 0.0)


def write_on(patch: pytest.MonkeyPatch) -> None:
    """The weights are written, and flushed, once more when the manifest is there already."""
    real = checkpoint._write_text

    def write_text(path: Path, text: str) -> None:
        real(path, text)
        if path.name == MANIFEST:
            weights = path.with_name(checkpoint.WEIGHTS)
            weights.write_bytes(weights.read_bytes())
            checkpoint._sync_file(weights)

    patch.setattr(checkpoint, "_write_text", write_text)


def keep_staging(patch: pytest.MonkeyPatch) -> None:
    """A save that fails leaves what it had written."""
    real = shutil.rmtree

    def rmtree(path: Path, *args: Any, **kwargs: Any) -> None:
        if not Path(path).name.startswith(STAGED):
            real(path, *args, **kwargs)

    patch.setattr(shutil, "rmtree", rmtree)


def swallow_the_error(self: CheckpointWriter, about: Manifest) -> Saved:
    """A save that failed is acknowledged."""
    try:
        return real_save(self, about)
    except OSError:
        return Saved(self._output.checkpoint(about.step), 0, 0.0)


def prune_by_count(self: CheckpointWriter, newest: int, best_step: int) -> list[str]:
    """A damaged checkpoint counts among those that are kept."""
    mine = [step for step in self._output.checkpoint_steps() if step <= newest]
    for step in mine[self._keep :]:
        if step != best_step:
            shutil.rmtree(self._output.checkpoint(step))
    return []


def record_in_place(patch: pytest.MonkeyPatch) -> None:
    """A JSON file is written over itself."""
    patch.setattr(invariants, "write_json", lambda path, value: path.write_text(json.dumps(value)))


def best_not_restored(patch: pytest.MonkeyPatch) -> None:
    """Nobody puts the earlier best model back."""
    patch.setattr(checkpoint, "restore_best", lambda _output: None)


def best_in_place(patch: pytest.MonkeyPatch) -> None:
    """The earlier best model goes before the new one is written."""
    real = checkpoint.publish_best

    def publish_best(output: OutputDir, model: Any, tokenizer: Any) -> None:
        shutil.rmtree(output.best, ignore_errors=True)
        real(output, model, tokenizer)

    patch.setattr(checkpoint, "publish_best", publish_best)


MUTANTS = {
    "no file is flushed": Mutant(
        without_flush(lambda path: path.is_file()), flushed, "published without being flushed"
    ),
    "the weights are not flushed": Mutant(
        without_flush(lambda path: path.name == checkpoint.WEIGHTS),
        flushed,
        "^trained.safetensors was published without being flushed",
    ),
    "the manifest is not flushed": Mutant(
        without_flush(lambda path: path.name == MANIFEST), flushed, "^MANIFEST.json was published without being flushed"
    ),
    "no folder is flushed": Mutant(
        without_flush(lambda path: path.is_dir(), "_sync_folder"),
        flushed,
        r"^\.tmp-.* was published without being flushed",
    ),
    "the staged folder is not flushed": Mutant(
        without_flush(lambda path: path.name.startswith(STAGED), "_sync_folder"),
        flushed,
        r"^\.tmp-.* was published without being flushed",
    ),
    "the parent is not flushed": Mutant(
        without_flush(lambda path: path.name == "checkpoints", "_sync_folder"),
        flushed,
        "the folder of the checkpoints was not flushed",
    ),
    "flushed after the rename": Mutant(flush_after_rename, flushed, "published without being flushed"),
    "written after the manifest": Mutant(write_on, flushed, "^written after the manifest"),
    "sizes alone are verified": Mutant(verify_sizes_alone, flipped(checkpoint.WEIGHTS), "^taken: Found"),
    "sizes alone are verified, of the optimizer's state": Mutant(
        verify_sizes_alone, flipped(checkpoint.OPTIMIZER), "^taken: Found"
    ),
    "the frozen weights are not verified": Mutant(verify_without_frozen, frozen_flipped, "^taken: Found"),
    "the manifest is not verified": Mutant(manifest_as_it_is, changed_manifest, "^taken: Found"),
    "pruned before it is published": Mutant(
        replace_save(save_after_prune), survives("rename"), "^step-00000001 is lost"
    ),
    "pruned before it is written": Mutant(replace_save(save_after_prune), survives("write"), "^step-00000001 is lost"),
    "saved in place": Mutant(replace_save(save_in_place), survives("write", 3), "^step-00000003 is lost"),
    "the staging is left": Mutant(keep_staging, survives("fsync", 2), r"^left behind: \['\.tmp-"),
    "a failure is acknowledged": Mutant(replace_save(swallow_the_error), survives("fsync"), "^step-00000003 is lost"),
    "a read error is swallowed in verify": Mutant(verify_swallows, unreadable_weights, "^taken: Found"),
    "a read error is swallowed in the search": Mutant(skip_silently, unreadable_weights, "^nothing was said"),
    "the search ends at a damaged one": Mutant(give_up_at_the_first, flipped(checkpoint.MODEL_CONFIG), "^taken: None"),
    "the oldest is taken": Mutant(oldest_first, newest_is_taken, "of step 1 and not 2"),
    "tensors are read before they are verified": Mutant(
        load_first, flipped(checkpoint.WEIGHTS), "^tensors were read before"
    ),
    "a damaged one counts": Mutant(
        lambda patch: patch.setattr(CheckpointWriter, "prune", prune_by_count), two_are_left, "^step-00000002 is lost"
    ),
    "a record is written in place": Mutant(record_in_place, record_survives, "^the record is cut"),
    "the best model is not put back": Mutant(best_not_restored, best_survives(3), "no best model any more"),
    "the best model is removed first": Mutant(best_in_place, best_survives(1), "no best model any more"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_each_mutant_fails_its_check(
    name: str,
    tiny: Tiny,
    two_saved: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    table: ScenarioTable,
    cuts_saves: None,  # noqa: ARG001  # mutants leave what they like
) -> None:
    mutant = MUTANTS[name]
    mutant.check(tiny, copy(two_saved, tmp_path / "sound"))
    output = copy(two_saved, tmp_path / "mutant")
    with table.scenario("a mutant of the checkpoints is noticed") as tries, tries.one(name):
        mutant.mutate(monkeypatch)
        with pytest.raises(AssertionError, match=mutant.says):
            mutant.check(tiny, output)
