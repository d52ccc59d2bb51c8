"""Which files a run exported, and which belong to somebody else."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from engine.contract.exports import DIGEST, MARK, digest_of_best, is_due, is_exported, may_be_written, remember
from engine.contract.manifest import HashedFile
from engine.contract.outputdir import OutputDir


@pytest.fixture
def output(tmp_path: Path) -> OutputDir:
    """An output folder with a best model."""
    found = OutputDir(tmp_path / "out")
    found.best.mkdir(parents=True)
    (found.best / DIGEST).write_text("ab  model.safetensors\n")
    return found


def archive(path: Path, name: str = MARK) -> HashedFile:
    """Writes an archive with one entry; its size and hash."""
    with zipfile.ZipFile(path, "w") as made:
        made.writestr(name, "weights")
    data = path.read_bytes()
    return HashedFile(len(data), hashlib.sha256(data).hexdigest())


def test_a_file_that_does_not_exist_may_be_written(output: OutputDir, tmp_path: Path) -> None:
    assert may_be_written(tmp_path / "model.bin", output)
    (tmp_path / "model.bin").symlink_to("nowhere")
    assert not may_be_written(tmp_path / "model.bin", output)


def test_only_a_recorded_file_with_our_mark_is_ours(output: OutputDir, tmp_path: Path) -> None:
    target = tmp_path / "model.bin"
    written = archive(target)
    assert not is_exported(target, output)
    remember(output, target, written, "ab")
    assert is_exported(target, output)
    foreign = tmp_path / "foreign.bin"
    remember(output, foreign, archive(foreign, "archive/data.pkl"), "ab")
    assert not is_exported(foreign, output)


def test_the_file_before_is_still_ours_while_it_is_replaced(output: OutputDir, tmp_path: Path) -> None:
    target = tmp_path / "model.bin"
    remember(output, target, archive(target), "ab")
    remember(output, target, HashedFile(1, "of the file to come"), "cd")
    assert is_exported(target, output)
    remember(output, target, HashedFile(1, "of one more"), "ef")
    assert not is_exported(target, output)


def test_an_export_is_due_until_it_is_of_the_best_model(output: OutputDir, tmp_path: Path) -> None:
    target = tmp_path / "model.bin"
    assert is_due(target, output)
    remember(output, target, archive(target), digest_of_best(output))
    assert not is_due(target, output)
    (output.best / DIGEST).write_text("of a better model")
    assert is_due(target, output)


def test_without_a_best_model_nothing_is_due(tmp_path: Path) -> None:
    assert not is_due(tmp_path / "model.bin", OutputDir(tmp_path / "empty"))
