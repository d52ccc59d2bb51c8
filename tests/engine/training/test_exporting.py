"""The best model as a plain state dict: what is in it, and what is never written over for it."""

import errno
import hashlib
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file
from transformers import BartForConditionalGeneration, T5ForConditionalGeneration

from engine.contract import events, exports
from engine.contract.durable import read_json
from engine.contract.outputdir import OutputDir
from engine.training import exporting
from engine.training.checkpoint import describe

if TYPE_CHECKING:
    from tests.engine.conftest import Outcome, Runner

Export = Callable[..., tuple["Outcome", Path]]


@pytest.fixture(scope="module")
def export(run_here: "Runner", tmp_path_factory: pytest.TempPathFactory) -> Export:
    """A run of one epoch that leaves its best model in a file, and the file."""

    def train(folder: Path | None = None, **settings: object) -> tuple["Outcome", Path]:
        folder = folder or tmp_path_factory.mktemp("export")
        target = folder / "model save" / "chat_small_t5.best.bin"
        values = {"epochs": 1, "export_state_dict": str(target), "bleu_rows": 2, **settings}
        return run_here(folder=folder, **values), target

    return train


@pytest.fixture(scope="module")
def exported(export: Export) -> tuple["Outcome", Path]:
    return export()


def test_the_export_is_the_best_model_under_every_name(exported: tuple["Outcome", Path]) -> None:
    run, target = exported
    assert run.code == 0
    best = T5ForConditionalGeneration.from_pretrained(run.output.best)
    wanted, state = best.state_dict(), torch.load(target, weights_only=True)
    assert set(state) == set(wanted) > {"shared.weight", "lm_head.weight", "encoder.embed_tokens.weight"}
    assert all(torch.equal(state[name], wanted[name]) for name in wanted)
    assert "exported" in run.codes(events.Notice)


def test_the_hash_of_the_export_is_recorded(exported: tuple["Outcome", Path]) -> None:
    run, target = exported
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    record = read_json(run.output.exported)
    assert record["files"][0] == {"size": target.stat().st_size, "sha256": digest}
    assert record["path"] == str(target)


def test_another_run_can_start_from_the_export(export: Export, exported: tuple["Outcome", Path]) -> None:
    run, _ = export(pretrained_model=str(exported[1]))
    assert run.code == 0


def test_a_model_that_is_not_t5_is_exported_whole(export: Export, tiny_bart: Path) -> None:
    run, target = export(pretrained_model=str(tiny_bart), freeze="", eval_rows=2)
    best = BartForConditionalGeneration.from_pretrained(run.output.best)
    state, wanted = torch.load(target), best.state_dict()
    assert set(state) == set(wanted)
    assert all(torch.equal(state[name], wanted[name]) for name in wanted)


def test_the_export_leaves_no_other_files(exported: tuple["Outcome", Path]) -> None:
    run, target = exported
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    assert sorted(path.name for path in run.output.path.iterdir() if path.is_file()) == [
        ".lock", "RUN.json", "evaluations.json", "exported.json",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_a_foreign_file_is_not_overwritten_by_the_export(export: Export, tmp_path: Path, kind: str) -> None:
    target, mine = tmp_path / "model save/chat_small_t5.best.bin", tmp_path / "mine"
    target.parent.mkdir()
    mine.write_bytes(b"weights of weeks")
    if kind == "file":
        mine.rename(target)
    elif kind == "link":
        target.symlink_to(mine)
    else:
        target.mkdir()
    run, _ = export(tmp_path)
    assert run.code == 0
    assert "export_kept" in run.codes(events.Warning)
    if kind == "folder":
        assert list(target.iterdir()) == []
    else:
        assert target.read_bytes() == b"weights of weeks"
        assert target.is_symlink() is (kind == "link")


def test_a_new_run_replaces_the_previous_runs_export(export: Export, tmp_path: Path) -> None:
    first, target = export(tmp_path)
    before = target.read_bytes()
    run, _ = export(tmp_path, fresh=True, seed=1)
    assert run.code == 0
    assert target.read_bytes() != before
    assert (first.output.path / "earlier" / tmp_path.name / "best").is_dir()  # where the model of before is kept


def test_an_export_changed_since_is_not_overwritten(export: Export, tmp_path: Path) -> None:
    _, target = export(tmp_path)
    target.write_bytes(target.read_bytes()[:-1] + b"x")
    changed = target.read_bytes()
    run, _ = export(tmp_path, fresh=True)
    assert target.read_bytes() == changed
    assert "export_kept" in run.codes(events.Warning)


def test_a_full_disk_loses_the_file_and_not_the_run(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(exporting, "write_state_dict", full)
    run, target = export(tmp_path)
    assert (run.code, target.exists()) == (0, False)
    assert "export_failed" in run.codes(events.Warning)
    assert run.output.best.is_dir()


def test_a_resumed_run_writes_an_export_asked_for_later(export: Export, tmp_path: Path) -> None:
    run, target = export(tmp_path, export_state_dict="")
    assert not target.exists()
    run, _ = export(tmp_path, resume=True, epochs=2, accepted=["epochs"])
    assert run.code == 0
    state, best = torch.load(target), load_file(run.output.best / "model.safetensors")
    assert all(torch.equal(state[name], best[name]) for name in best)


def test_an_invalid_record_does_not_prove_ownership(tmp_path: Path) -> None:
    output, target = OutputDir(tmp_path), tmp_path / "a.bin"
    target.write_bytes(b"mine")
    for text in ("[]", "{", '{"files": 3}', '{"files": [3, {"size": null}]}', '{"files": [{"size": 4}]}'):
        output.exported.write_text(text)
        assert not exports.may_be_written(target, output)


def test_a_record_that_claims_a_foreign_file_is_not_believed(tmp_path: Path) -> None:
    output, target = OutputDir(tmp_path / "out"), tmp_path / ".bashrc"
    output.path.mkdir()
    target.write_bytes(b"well known")
    exports.remember(output, target, describe(target), "")
    assert not exports.is_exported(target, output)
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    exports.remember(output, target, describe(target), "")
    assert not exports.may_be_written(target, output)


def test_a_copied_folder_does_not_own_the_originals_export(exported: tuple["Outcome", Path], tmp_path: Path) -> None:
    shutil.copy(exported[1], tmp_path / "a.bin")
    assert not exports.may_be_written(tmp_path / "a.bin", OutputDir(tmp_path / "other"))


# A run that is finished already.


def test_a_finished_run_is_exported_once_by_a_resume(
    exported: tuple["Outcome", Path], export: Export, tmp_path: Path
) -> None:
    run, first = exported
    shutil.copytree(run.output.path, tmp_path / "output")
    target = tmp_path / "new folder" / "again.bin"
    for codes in (["exported"], []):
        again, _ = export(tmp_path, resume=True, export_state_dict=str(target))
        assert (again.code, again.ended.message.code, again.all(events.Step)) == (0, "resume_finished", [])
        assert again.codes(events.Notice)[-1:] == codes
        again.run_dir.events.unlink()
        assert target.read_bytes() == first.read_bytes()


def test_a_finished_run_of_another_family_is_exported_whole(export: Export, tmp_path: Path, tiny_bart: Path) -> None:
    settings = {"pretrained_model": str(tiny_bart), "freeze": "", "eval_rows": 2}
    _, first = export(tmp_path, **settings)
    target = tmp_path / "again.bin"
    export(tmp_path, resume=True, export_state_dict=str(target), **settings)
    assert target.read_bytes() == first.read_bytes()


def test_a_finished_run_is_not_exported_over_a_foreign_file(
    exported: tuple["Outcome", Path], export: Export, tmp_path: Path
) -> None:
    shutil.copytree(exported[0].output.path, tmp_path / "output")
    mine = tmp_path / "mine.bin"
    mine.write_bytes(b"weights of weeks")
    again, _ = export(tmp_path, resume=True, export_state_dict=str(mine))
    assert (again.code, again.ended.message.code) == (2, "export_kept")
    assert mine.read_bytes() == b"weights of weeks"
