"""Missing files are named before anything is started."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.contract.config import FIELDS, RunConfig
from engine.contract.inputs import FILES, require_files
from engine.contract.messages import InputError
from engine.contract.texts import say


@pytest.mark.parametrize("setting", FILES)
def test_a_missing_file_is_named_with_its_option(setting: str, tmp_path: Path) -> None:
    config = replace(RunConfig(), **dict[str, Any]({setting: str(tmp_path / "none")}))

    with pytest.raises(InputError) as refused:
        require_files(config, setting)

    message = refused.value.message
    assert all(str(tmp_path / "none") in text for text in (message.what("en"), message.what("zh")))
    assert say(f"subject.{setting}", "en") in message.what("en")
    assert say(f"subject.{setting}", "zh") in message.what("zh")
    assert f"--{setting}" in message.fix("en")
    assert f"--{setting}" in message.fix("zh")


def test_the_first_missing_file_is_named(tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.touch()
    config = replace(RunConfig(), train_file=str(here), validation_file="no/1", tokenizer="no/2")

    with pytest.raises(InputError, match="no/1"):
        require_files(config, "train_file", "validation_file", "tokenizer")


def test_existing_files_and_empty_settings_pass(tmp_path: Path) -> None:
    config = replace(RunConfig(), train_file=str(tmp_path), pretrained_model="")

    require_files(config, "train_file", "pretrained_model")


def test_only_the_files_asked_for_matter() -> None:
    require_files(replace(RunConfig(), train_file="no/such/file"))


def test_every_file_belongs_to_a_setting() -> None:
    assert set(FILES) <= set(FIELDS)
