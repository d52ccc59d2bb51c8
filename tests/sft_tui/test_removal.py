"""Deleting a run takes exactly what the run wrote, and says what it left."""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.contract.config import to_json
from engine.contract.durable import read_json, write_json
from engine.contract.exports import MARK, remember
from engine.contract.files import remove_below
from engine.contract.locks import LOCK_NAME, FolderLock, is_locked
from engine.contract.manifest import MANIFEST, HashedFile
from engine.contract.messages import BusyError, InputError
from engine.contract.outputdir import OutputDir
from engine.contract.owner import new_id
from engine.contract.presets import preset
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir
from sft_tui import notes, remembered, removal
from sft_tui.runs import Run, read_run
from tests.processes import until

WEIGHTS = "trained.safetensors"
Made = Callable[..., Run]


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """A run that ended, with everything that a run leaves."""
    monkeypatch.chdir(tmp_path)

    def make(logs: str = "logs", name: str = "sft-small-1", output_dir: str = "out") -> Run:
        run_dir, output, id = RunDir(tmp_path / logs / name), OutputDir(Path(output_dir)), new_id()
        run_dir.path.mkdir(parents=True)
        config = {**to_json(preset("sft-small").config), "output_dir": output_dir}
        run_dir.write_record(RunRecord(name, "sft-small", "train", config, id=id))
        for path in (run_dir.events, run_dir.trainer_output, run_dir.supervisor_output, run_dir.plain_log):
            path.touch()
        write_json(run_dir.snapshot, {})
        write_json(run_dir.processes, {})
        run_dir.request_stop()
        run_dir.stacks(0).touch()
        run_dir.row_losses_of(0).touch()
        (run_dir.path / LOCK_NAME).touch()
        output.set_aside()
        for step in (5, 10):
            output.checkpoint(step).mkdir(parents=True)
            (output.checkpoint(step) / WEIGHTS).write_bytes(b"w" * 1000)
            write_json(output.checkpoint(step) / MANIFEST, {"files": {WEIGHTS: {}, "more.json": {}}})
            (output.checkpoint(step) / "more.json").touch()
        (output.checkpoints / "frozen").mkdir()
        (output.checkpoints / "frozen" / f"{'0' * 64}.safetensors").write_bytes(b"f" * 500)
        output.best.mkdir()
        for file in ("config.json", "model.safetensors"):
            (output.best / file).touch()
        write_json(output.evaluations, {})
        owner = {"run": name, "id": id, "run_dir": str(run_dir.path), "best": ["config.json", "model.safetensors"]}
        write_json(output.owner_file, owner)
        (output.path / LOCK_NAME).touch()
        return read_run(run_dir)

    return make


def everything(folder: Path) -> set[str]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()}


def test_a_deleted_run_leaves_nothing(made: Made, tmp_path: Path) -> None:
    run = made()
    going = removal.of(run)
    assert [str(path) for path, _ in going] == ["out", str(run.run_dir.plain_log), str(run.run_dir.path)]
    assert sum(size for _, size in going) > 2500
    assert removal.remove(run) == []
    assert everything(tmp_path) == set()
    assert sorted(os.listdir(tmp_path)) == ["logs"]


THEIRS = (
    "out/thesis.txt", "out/best/notes.md", "out/checkpoints/step-00000005/mine", "out/checkpoints/keep/a",
    "out/checkpoints/frozen/own.safetensors", "out/.tmp-mine/a", "out/earlier/by-hand/model.bin",
    "logs/sft-small-1/why.md", "logs/sft-small-1/control/own", "logs/notes.txt",
)  # fmt: skip


def test_files_of_others_stay_and_are_named(made: Made, tmp_path: Path) -> None:
    run = made()
    for name in THEIRS:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("precious")
    assert (Path("out/best"), 0) in removal.of(run)
    left = removal.remove(run)
    assert everything(tmp_path) == set(THEIRS)
    assert {(tmp_path / name).read_text() for name in THEIRS} == {"precious"}
    named = {str(path.relative_to(tmp_path) if path.is_absolute() else path) for path in left}
    assert {"out/best/notes.md", "out/checkpoints/step-00000005/mine", "logs/sft-small-1/why.md"} <= named


@pytest.mark.parametrize("output_dir", [".", "..", "home"])
def test_deleting_from_a_shared_folder_takes_only_own_files(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output_dir: str
) -> None:
    home = tmp_path / "home"
    (home / "here").mkdir(parents=True)
    for name in ("thesis.txt", "data/rows.parquet", "here/a"):
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_text("precious")
    run = made(output_dir=str(home))
    monkeypatch.chdir(home / "here" if output_dir == ".." else home if output_dir == "." else tmp_path)
    run = replace(run, record=replace(run.record, config={**run.record.config, "output_dir": output_dir}))
    removal.remove(run)
    assert everything(home) == {"thesis.txt", "data/rows.parquet", "here/a"}
    assert not run.run_dir.path.exists()


def test_of_two_runs_of_one_name_only_the_chosen_one_is_deleted(made: Made, tmp_path: Path) -> None:
    old, new = made("la"), made("lb")
    kept = {name for name in everything(tmp_path) if not name.startswith(("la/", "out/earlier/"))}
    places = [str(path) for path, _ in removal.of(old)]
    assert "out/earlier/sft-small-1" in places
    assert removal.remove(old) == []
    assert everything(tmp_path) == kept
    assert not Path("out/earlier").exists()
    assert removal.remove(new) == []
    assert everything(tmp_path) == set()


def test_deleting_a_copied_log_keeps_the_model(made: Made, tmp_path: Path) -> None:
    run = made()
    shutil.copytree("logs", "backup")
    before = {name for name in everything(tmp_path) if not name.startswith("backup/sft-small-1")}
    removal.remove(read_run(RunDir(Path("backup/sft-small-1"))))
    assert everything(tmp_path) == before
    removal.remove(run)


def test_a_moved_log_is_deleted_with_its_model(made: Made, tmp_path: Path) -> None:
    made()
    shutil.move("logs", "moved")
    removal.remove(read_run(RunDir(Path("moved/sft-small-1"))))
    assert everything(tmp_path) == set()


@pytest.mark.parametrize("owner", [{}, {"id": ""}, {"id": "0" * 32}, {"run": "sft-small-1"}])
def test_an_output_folder_that_is_only_named_is_left_alone(made: Made, tmp_path: Path, owner: dict[str, Any]) -> None:
    run = made()
    write_json(run.record.output.owner_file, owner)
    before = everything(tmp_path / "out")
    removal.remove(run)
    assert everything(tmp_path / "out") == before
    assert not run.run_dir.path.exists()


LINKED = ("checkpoints", "checkpoints/step-00000005", "checkpoints/frozen", "best", "earlier")


@pytest.mark.parametrize("linked", LINKED)
def test_no_link_is_followed(made: Made, tmp_path: Path, linked: str) -> None:
    run = made()
    place = tmp_path / "out" / linked
    if place.exists():
        place.rename(tmp_path / "theirs")
    else:
        shutil.copytree("out", tmp_path / "theirs" / "sft-small-1")
    place.symlink_to(tmp_path / "theirs")
    before = everything(tmp_path / "theirs")
    removal.remove(run)
    assert everything(tmp_path / "theirs") == before


def test_a_link_is_deleted_and_not_its_target(made: Made, tmp_path: Path) -> None:
    run = made()
    (tmp_path / "thesis.txt").write_text("precious")
    for path in (run.run_dir.trainer_output, run.record.output.evaluations):
        path.unlink()
        path.symlink_to(tmp_path / "thesis.txt")
    removal.remove(run)
    assert everything(tmp_path) == {"thesis.txt"}


@pytest.mark.parametrize("names", [["../../thesis.txt"], ["/etc/passwd"], [".."], [""]])
def test_names_in_a_manifest_delete_nothing_elsewhere(made: Made, tmp_path: Path, names: list[str]) -> None:
    run = made()
    (tmp_path / "thesis.txt").write_text("precious")
    output = run.record.output
    write_json(output.owner_file, {**read_json(output.owner_file), "best": names})
    write_json(output.checkpoint(5) / MANIFEST, {"files": dict.fromkeys(names)})
    removal.remove(run)
    assert (tmp_path / "thesis.txt").read_text() == "precious"
    assert not output.owner_file.exists()


@pytest.fixture
def project(made: Made, tmp_path: Path) -> tuple[Run, Path]:
    """A run that also left a state dict of its best model outside its folders, and that file."""
    run, target = made(), tmp_path / "model.bin"
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr(MARK, "")
    content, output = target.read_bytes(), run.record.output
    remember(output, target, HashedFile(len(content), hashlib.sha256(content).hexdigest()), "")
    write_json(output.owner_file, {**read_json(output.owner_file), "output_dir": str(output.path.resolve())})
    return run, target


def test_an_export_is_deleted_with_its_run(project: tuple[Run, Path], made: Made) -> None:
    run, target = project
    made(name="sft-small-2")
    removal.remove(run)  # which was moved to earlier/ by then
    assert not target.exists()


def test_a_copied_project_keeps_the_originals_export(
    project: tuple[Run, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, target = project
    for name in ("logs", "out"):
        shutil.copytree(name, tmp_path / "copy" / name)
    shutil.rmtree("logs")
    monkeypatch.chdir("copy")
    assert removal.remove(read_run(RunDir(tmp_path / "copy" / "logs" / "sft-small-1"))) == []
    assert target.exists()
    assert not Path("out").exists()


@pytest.mark.parametrize("swapped", ["checkpoints", "checkpoints/step-00000005", "best"])
def test_a_link_swapped_in_during_deletion_is_not_followed(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swapped: str
) -> None:
    run, place, real = made(), tmp_path / "out" / swapped, remove_below
    shutil.copytree(place, tmp_path / "theirs")
    before = everything(tmp_path / "theirs")

    def swap_and_remove(folder: Path, file: Path) -> None:
        if not place.is_symlink():
            place.rename(tmp_path / "moved")
            place.symlink_to(tmp_path / "theirs")
        real(folder, file)

    monkeypatch.setattr(removal, "remove_below", swap_and_remove)
    with pytest.raises(InputError, match="links are not followed"):
        removal.remove(run)
    assert everything(tmp_path / "theirs") == before


def test_nothing_is_deleted_while_another_run_holds_the_folder(made: Made, tmp_path: Path) -> None:
    run = made()
    before = everything(tmp_path)
    lock = FolderLock.acquire(Path("out"), "sft-small-2", tmp_path / "logs" / "sft-small-2")
    with pytest.raises(BusyError, match="sft-small-2"):
        removal.remove(run)
    lock.release()
    assert everything(tmp_path) == before


def test_files_that_cannot_be_deleted_are_reported(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = made()
    real = remove_below

    def refuse(folder: Path, file: Path) -> None:
        if file.name == WEIGHTS:
            raise PermissionError(13, "Permission denied", str(file))
        real(folder, file)

    with monkeypatch.context() as patch:
        patch.setattr(removal, "remove_below", refuse)
        with pytest.raises(InputError, match=r"step-00000010/trained\.safetensors .*Permission denied"):
            removal.remove(run)
    assert not is_locked(Path("out"))
    assert removal.remove(read_run(run.run_dir)) == []
    assert everything(tmp_path) == set()


REMOVING = """
import sys
from pathlib import Path
from sft_tui import removal, runs
print("ready", flush=True)
sys.stdin.readline()
removal.remove(runs.read_run(runs.find(Path("logs"), "sft-small-1")))
"""


def test_a_start_during_a_deletion_waits_for_its_end(made: Made, tmp_path: Path) -> None:
    """The lock goes last: the next holder finds the folder empty, and loses nothing afterwards."""
    for _ in range(2):
        run = made()
        for number in range(600):
            path = run.record.output.checkpoint(number + 100)
            path.mkdir()
            (path / WEIGHTS).touch()
        os.utime("out/.lock")
        child = subprocess.Popen(
            [sys.executable, "-P", "-c", REMOVING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path
        )
        with child:
            assert child.stdout is not None
            assert child.stdin is not None
            child.stdout.readline()
            child.stdin.write(b"\n")
            child.stdin.flush()
            until(lambda: is_locked(Path("out")) or not Path("out").exists(), 30)
            lock = None
            while lock is None:
                try:
                    lock = FolderLock.acquire(Path("out"), "second", tmp_path / "logs" / "second")
                except InputError:
                    continue
            assert os.listdir("out") == [LOCK_NAME]
            write_json(OutputDir(Path("out")).owner_file, {"run": "second"})
        assert child.returncode == 0
        assert lock.hold()
        assert sorted(os.listdir("out")) == [LOCK_NAME, "RUN.json"]
        lock.release()
        shutil.rmtree("out")
        shutil.rmtree("logs")


def test_a_refused_run_leaves_no_folder_that_was_made_for_it(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path / "logs" / "sft-1")
    run_dir.path.mkdir(parents=True)
    remembered.remember(tmp_path / "logs", "tokenizer", "a")
    removal.discard(run_dir, 2)
    assert not (tmp_path / "logs").exists()


def test_a_note_about_a_run_is_deleted_with_it(made: Made) -> None:
    run = made()
    notes.write(run.run_dir, notes.Note("best so far", ["keep"]))
    write_json(run.run_dir.blind, {})
    assert removal.remove(run) == []
    assert not run.run_dir.path.exists()
