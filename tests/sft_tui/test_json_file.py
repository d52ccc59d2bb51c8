"""A value of a model's JSON file is set or removed, and nothing else changes."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from engine.contract.messages import InputError
from sft_tui import json_file
from sft_tui.cli.main import cli


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_text('{"eos_token_id": 1, "name": "模型", "nested": {"a": [1, 2]}}', encoding="utf-8")
    return path


def edit(*words: str) -> Result:
    return CliRunner().invoke(cli, ["data", "edit", *words])


@pytest.mark.parametrize(("typed", "value"), [("2", 2), ('"</s>"', "</s>"), ("</s>", "</s>"), ("[1, 2]", [1, 2])])
def test_a_value_is_json_or_else_a_text(file: Path, typed: str, value: object) -> None:
    assert edit(str(file), "eos_token_id", typed).exit_code == 0
    assert json.loads(file.read_text()) == {"name": "模型", "nested": {"a": [1, 2]}, "eos_token_id": value}


def test_a_value_is_removed(file: Path) -> None:
    assert edit(str(file), "nested", "--remove").exit_code == 0
    assert json.loads(file.read_text()) == {"eos_token_id": 1, "name": "模型"}
    with pytest.raises(InputError, match="has no nested"):
        json_file.edit(file, "nested", None)


def test_a_linked_file_stays_a_link(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to(file)
    json_file.edit(link, "pad_token_id", 0)
    assert link.is_symlink()
    assert json.loads(file.read_text())["pad_token_id"] == 0


def test_a_file_that_does_not_exist_is_made(tmp_path: Path) -> None:
    json_file.edit(tmp_path / "tokenizer_config.json", "eos_token", "</s>")
    assert json.loads((tmp_path / "tokenizer_config.json").read_text()) == {"eos_token": "</s>"}


@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff", b'{"a": 1', b"[" * 10_000])
def test_a_file_that_is_no_object_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is not a JSON object"):
        json_file.edit(path, "a", 2)
    assert path.read_bytes() == content


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        json_file.edit(tmp_path / "gone" / "config.json", "a", 2)


@pytest.mark.parametrize("words", [(), ("2", "--remove")])
def test_either_a_value_or_its_removal_is_asked_for(file: Path, words: tuple[str, ...]) -> None:
    before = file.read_bytes()
    assert edit(str(file), "name", *words).exit_code == 2
    assert file.read_bytes() == before
