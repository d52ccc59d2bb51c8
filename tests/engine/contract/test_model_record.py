"""The record of a model's folder."""

import json
from pathlib import Path
from typing import Any

import pytest

from engine.contract.model_record import record_of


def folder_with(folder: Path, record: Any) -> Path:
    (folder / "config.json").write_text("{}")
    (folder / "SOURCE.json").write_text(json.dumps(record))
    return folder


def test_a_folder_with_all_its_files_has_its_record(tmp_path: Path) -> None:
    assert record_of(folder_with(tmp_path, {"id": "me/tiny", "files": {"config.json": 2}}))["id"] == "me/tiny"


@pytest.mark.parametrize(
    "files", [{"config.json": 3}, {"config.json": 2, "model.safetensors": 1}, {}, None, ["config.json"], {"a\0b": 1}]
)
def test_a_folder_that_lost_something_is_not_whole(tmp_path: Path, files: Any) -> None:
    assert record_of(folder_with(tmp_path, {"id": "me/tiny", "files": files})) == {}


def test_a_folder_without_a_record_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert record_of(tmp_path) == {}
