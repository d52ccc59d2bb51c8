"""Whatever happened to a file of a checkpoint: it is noticed before a tensor is used, named, and passed over."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.contract.manifest import MANIFEST, Manifest
from engine.contract.outputdir import OutputDir
from engine.training import checkpoint
from tests.faults.failing_calls import unreadable
from tests.faults.invariants import PATIENCE, assert_damage_is_found, assert_nothing_lost, entries, within
from tests.faults.scenarios import ScenarioTable
from tests.faults.tiny import Tiny, copy, frozen_entry, save_and_prune


def cut_to(size: Callable[[int], int]) -> Callable[[Path], None]:
    """Leaves the beginning of a file."""
    return lambda path: os.truncate(path, size(path.stat().st_size))


def flip_at(place: Callable[[int], int]) -> Callable[[Path], None]:
    """Flips one bit of a file."""

    def flip(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[place(len(data))] ^= 1
        path.write_bytes(data)

    return flip


def replace_by(make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Puts something else in the place of a file."""

    def replace(path: Path) -> None:
        path.unlink()
        make(path)

    return replace


def a_folder_of_that_size(path: Path) -> None:
    """A folder whose name is right and that is not empty."""
    path.mkdir()
    (path / "x").touch()


DAMAGES: dict[str, Callable[[Path], None]] = {
    "cut to nothing": cut_to(lambda _: 0),
    "cut to one byte": cut_to(lambda _: 1),
    "cut to half": cut_to(lambda size: size // 2),
    "cut by one byte": cut_to(lambda size: size - 1),
    "longer by one byte": cut_to(lambda size: size + 1),
    "first byte": flip_at(lambda _: 0),
    "middle byte": flip_at(lambda size: size // 2),
    "last byte": flip_at(lambda size: size - 1),
    "removed": lambda path: path.unlink(),
    "a folder": replace_by(a_folder_of_that_size),
    "a dangling link": replace_by(lambda path: path.symlink_to("nowhere")),
    "a link to itself": replace_by(lambda path: path.symlink_to(path.name)),
    "zeros": replace_by(lambda path: path.write_bytes(b"\0" * 1000)),
    "no text": replace_by(lambda path: path.write_bytes(b"\xff\xfe" * 500)),
}


@pytest.fixture(scope="module")
def three_saved(tiny: Tiny, two_saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `two_saved`, with a checkpoint of step 3; only to be copied."""
    output = copy(two_saved, tmp_path_factory.mktemp("three") / "output")
    tiny.writer(output, frozen=frozen_entry(output)).save(Manifest(step=3))
    return output.path


@pytest.fixture
def three(three_saved: Path, tmp_path: Path) -> OutputDir:
    """A copy of `three_saved` for one test."""
    return copy(three_saved, tmp_path / "three")


def names(output: OutputDir) -> list[str]:
    """The files of the newest checkpoint, as they are."""
    return [path.name for path in entries(output.checkpoint(3))]


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_checkpoint_file_is_found(three_saved: Path, tmp_path: Path, table: ScenarioTable, how: str) -> None:
    with table.scenario("a file of a checkpoint is damaged") as tries:
        for name in names(OutputDir(three_saved)):
            output = copy(three_saved, tmp_path / "output")
            DAMAGES[how](output.checkpoint(3) / name)
            with tries.one(f"{name}: {how}"):
                assert_damage_is_found(output, 3, 2, name)


def test_every_file_of_a_checkpoint_was_damaged_once(three: OutputDir) -> None:
    """The manifest, the model's configurations, its weights and the optimizer's state."""
    assert len(names(three)) == 5
    assert MANIFEST in names(three)


@pytest.mark.parametrize("how", DAMAGES)
def test_damaged_frozen_weights_are_found(three: OutputDir, table: ScenarioTable, how: str) -> None:
    """All checkpoints share them, so none is taken."""
    (frozen,) = entries(three.checkpoints / "frozen")
    DAMAGES[how](frozen)
    with table.scenario("the frozen weights are damaged") as tries, tries.one(how):
        assert_damage_is_found(three, 3, None, "frozen")


def test_a_file_that_cannot_be_read_is_found(three: OutputDir, table: ScenarioTable) -> None:
    with table.scenario("a file of a checkpoint cannot be read") as tries:
        for name in names(three):
            with tries.one(name), unreadable(three.checkpoint(3) / name):
                assert_damage_is_found(three, 3, 2, name)


def test_a_pipe_is_not_waited_for(three_saved: Path, tmp_path: Path, table: ScenarioTable) -> None:
    with table.scenario("a pipe in the place of a file") as tries:
        for name in set(names(OutputDir(three_saved))) - {MANIFEST}:
            output = copy(three_saved, tmp_path / "output")
            replace_by(os.mkfifo)(output.checkpoint(3) / name)
            with tries.one(name):
                assert_damage_is_found(output, 3, 2, name)


def test_a_pipe_in_place_of_the_manifest_is_not_waited_for(three: OutputDir, table: ScenarioTable) -> None:
    replace_by(os.mkfifo)(three.checkpoint(3) / MANIFEST)
    with table.scenario("a pipe in the place of the manifest") as tries, tries.one("newest"):
        assert_damage_is_found(three, 3, 2, MANIFEST)


# A manifest with the right hash that says something else: of another version, or written by somebody else.

OTHER_MANIFESTS: dict[str, dict[str, Any]] = {
    "no files": {"files": None},
    "not one file": {"files": {}},
    "files in a list": {"files": ["config.json"]},
    "files without entries": {"files": {"config.json": None}},
    "entries without hashes": {"files": {"config.json": {"size": 1}}},
    "a file that is no text": {"files": {"": {"size": 0, "sha256": ""}}},
    "a file with a null byte": {"files": {"a\0b": {"size": 0, "sha256": ""}}},
    "a name that is too long": {"files": {"a" * 5000: {"size": 0, "sha256": ""}}},
    "no frozen weights": {"frozen": None},
    "frozen weights in a text": {"frozen": "frozen/x"},
    "frozen weights without a file": {"frozen": {"size": 1, "sha256": ""}},
    "frozen weights in a number": {"frozen": {"file": 5, "size": 1, "sha256": ""}},
    "a step in a text": {"step": "3"},
    "a step that is a fraction": {"step": 3.0},
    "no step": {"step": None},
    "a step that is a list": {"step": [3]},
}


@pytest.mark.parametrize("what", OTHER_MANIFESTS)
def test_a_manifest_of_another_kind_is_skipped(three: OutputDir, table: ScenarioTable, what: str) -> None:
    path = three.checkpoint(3) / MANIFEST
    manifest = {**json.loads(path.read_text()), **OTHER_MANIFESTS[what]}
    del manifest["sha256"]
    own = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps({**manifest, "sha256": own}))
    with table.scenario("a manifest of another kind") as tries, tries.one(what):
        assert_damage_is_found(three, 3, 2, "")


# Next to the checkpoints.

ESCAPE = "\x1b[2J\x1b]0;x\x07"
FOLDERS = [
    "lost+found",
    "step-12345678901234567890",
    "12345678901234567890",
    "step-99999999",
    "step-00000012.bak",
    "step-00000012 ",
    "step-00000012\n",
    "step-0000000١",
    "step-００００００１２",
    f"step-{ESCAPE}",
    f"{ESCAPE}step-00000012",
    "检查点-00000012",
    "第十二步",
    "best",
    "tmp-step-00000012",
]


def plant(folder: Path) -> list[Path]:
    """Puts entries that are not checkpoints into a folder: folders, files and links."""
    planted = [folder / name for name in FOLDERS]
    for path in planted:
        path.mkdir()
    files = [folder / f"{name}.txt" for name in FOLDERS] + [folder / "step-00000077"]
    links = {"step-00000088": "step-00000002", "step-00000089": "step-00000089", "step-00000090": "nowhere"}
    for path in files:
        path.write_text("mine")
    for name, target in links.items():
        (folder / name).symlink_to(target)
    return [*planted, *files, *(folder / name for name in links)]


def test_foreign_files_are_neither_loaded_nor_deleted(three: OutputDir, tiny: Tiny, table: ScenarioTable) -> None:
    strays = plant(three.checkpoints)
    with table.scenario("something else beside the checkpoints") as tries:
        found, skipped = checkpoint.newest_sound(three)
        said = {Path(str(message.args["checkpoint"])).name for message in skipped}
        with tries.one("taken"):
            assert found is not None
            assert found.step == 3
            # These have a checkpoint's name, so that it is said why they are none.
            assert said == {f"step-{step:08d}" for step in (77, 88, 89, 90, 99999999)}
        checkpoint.remove_leftovers(three)
        save_and_prune(tiny.writer(three, frozen=frozen_entry(three)), 4)
        for path in strays:
            with tries.one(path.name):
                assert os.path.lexists(path), "deleted"
                assert not path.is_file() or path.read_text() == "mine", "changed"
        with tries.one("the checkpoints themselves"):
            assert_nothing_lost(three, [3, 4])


def test_only_leftovers_of_saves_are_removed(three: OutputDir, tmp_path: Path, table: ScenarioTable) -> None:
    """Folders, files and links that are named as stagings are; not what a link leads to, nor like names."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "x").write_text("mine")
    theirs = [".tmp-mine", ".tmp-1", ".tmp-sft-notes", ".tmp-sft-best", ".tmp-sft-step-9-1", ".tmpfiles"]
    for folder in (three.checkpoints, three.checkpoints / "frozen", three.path):
        (folder / ".tmp-sft-step-00000009-1").mkdir()
        (folder / ".tmp-sft-step-00000009-1" / "x").touch()
        (folder / ".tmp-sft-RUN.json-1").touch()
        (folder / ".tmp-sft-best-1").symlink_to(precious)
        for name in theirs:
            (folder / name).mkdir()
            (folder / name / "x").write_text("mine")
    with table.scenario("what cut saves left is removed") as tries, tries.one("folders, files, links"):
        checkpoint.remove_leftovers(three)
        left = [path.relative_to(three.path) for path in three.path.rglob(".tmp*")]
        assert sorted(path.name for path in left) == sorted(3 * theirs)
        assert {(three.path / path / "x").read_text() for path in left} == {"mine"}
        assert (precious / "x").read_text() == "mine"
    for path in left:
        shutil.rmtree(three.path / path)


def test_a_file_in_place_of_the_folder_has_no_checkpoints(tmp_path: Path, table: ScenarioTable) -> None:
    output = OutputDir(tmp_path)
    with table.scenario("something else in the place of the checkpoints' folder") as tries:
        for name, make in {"nothing": None, "a file": Path.touch, "a pipe": os.mkfifo}.items():
            with tries.one(name):
                if make is not None:
                    make(output.checkpoints)
                assert checkpoint.newest_sound(output) == (None, [])
            output.checkpoints.unlink(missing_ok=True)


NO_FOLDERS: dict[str, Callable[[Path], object]] = {
    "a file": Path.touch,
    "a pipe": os.mkfifo,
    "a dangling link": lambda path: path.symlink_to("nowhere"),
    "a link to another": lambda path: path.symlink_to("step-00000002"),
}


def replaced(tiny: Tiny, output: OutputDir, make: Callable[[Path], object]) -> None:
    """Saves step 3 again, over something that has its name."""
    shutil.rmtree(output.checkpoint(3))
    make(output.checkpoint(3))
    writer = tiny.writer(output, frozen=frozen_entry(output))
    with within(PATIENCE):
        try:
            writer.save(Manifest(step=3))
        except checkpoint.SAVE_ERRORS as error:
            raise AssertionError(f"not saved: {error}") from None
    assert_nothing_lost(output, [1, 2, 3])


def test_a_save_replaces_a_partial_folder(tiny: Tiny, three: OutputDir, table: ScenarioTable) -> None:
    """Training reaches the step of a damaged checkpoint again."""
    with table.scenario("the rest of a folder under the name of a checkpoint") as tries, tries.one("empty"):
        replaced(tiny, three, Path.mkdir)


@pytest.mark.parametrize("kind", NO_FOLDERS)
def test_a_save_replaces_a_file_in_its_place(tiny: Tiny, three: OutputDir, table: ScenarioTable, kind: str) -> None:
    with table.scenario("no folder under the name of a checkpoint") as tries, tries.one(kind):
        replaced(tiny, three, NO_FOLDERS[kind])
