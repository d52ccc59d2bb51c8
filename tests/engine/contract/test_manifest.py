"""What a checkpoint says about itself, as far as it can be believed."""

import json
from pathlib import Path

import pytest

from engine.contract.manifest import MANIFEST, FrozenFile, HashedFile, Manifest, files_of_checkpoint, read_manifest

WHOLE = Manifest(
    run="sft-1", step=30, epoch=2, loss=1.5, next_loss=1.25, files={"trained.safetensors": HashedFile(3, "ab")},
    frozen=FrozenFile("frozen/ab.safetensors", 4, "cd"),
)  # fmt: skip


def test_a_manifest_is_read_back(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(json.dumps(WHOLE.to_json()))
    assert read_manifest(tmp_path) == WHOLE


def test_what_is_unknown_is_not_written() -> None:
    assert "steps_total" not in WHOLE.to_json()
    assert "next_loss" not in Manifest().to_json()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"step": -1}', '{"step": "1"}', '{"files": {"a": 1}}'])
def test_an_invalid_manifest_reads_as_empty(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST).write_text(text)
    assert read_manifest(tmp_path) == Manifest()


def test_the_usual_files_belong_to_a_checkpoint_without_a_manifest(tmp_path: Path) -> None:
    usual = files_of_checkpoint(tmp_path)
    assert usual[-1] == MANIFEST
    assert "trained.safetensors" in usual
    (tmp_path / MANIFEST).write_text(json.dumps(Manifest(files={"more.bin": HashedFile()}).to_json()))
    assert files_of_checkpoint(tmp_path) == [*sorted([*usual[:-1], "more.bin"]), MANIFEST]
