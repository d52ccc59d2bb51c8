"""Tensors of a file, without torch and without running anything."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.models.test_inspection import refusal, t5


def test_a_shard_that_is_missing_is_named(tmp_path: Path) -> None:
    t5().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    index = {"weight_map": {"shared.weight": "model-00001-of-00001.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "model-00001-of-00001.safetensors" in refusal(tmp_path).message.text()


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd"])
def test_an_index_names_only_files_next_to_it(tmp_path: Path, name: str) -> None:
    t5().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"shared.weight": name}}))
    assert refusal(tmp_path).message.code == "model_bad"


def test_a_header_that_does_not_match_the_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 3)
    assert "was cut or damaged" in refusal(path).message.text()


class Evil:
    """Runs a command where it is unpickled in good faith."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("executed",))


def test_nothing_of_a_pickle_is_executed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.bin"
    torch.save({"shared.weight": Evil()}, path)
    assert refusal(path).message.code == "model_pickle"
    assert "executed" not in capfd.readouterr().out


def test_a_pointer_of_git_lfs_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert "git lfs pull" in refusal(path).message.text()
