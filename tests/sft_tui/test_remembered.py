"""What people set before is found again, whatever has become of its file."""

import json
from pathlib import Path

import pytest

from engine.contract.config import to_json
from engine.contract.presets import preset
from engine.contract.record import RunRecord
from sft_tui.remembered import (
    FILE,
    MOST_PRESETS,
    MOST_RECENT,
    last_values,
    recent,
    remember,
    remember_run,
    remember_values,
)


def test_recent_values_are_listed_newest_first_and_once(tmp_path: Path) -> None:
    for value in ("a", "b", "a", ""):
        remember(tmp_path / "logs", "tokenizer", value)
    assert recent(tmp_path / "logs", "tokenizer") == ["a", "b"]
    assert recent(tmp_path / "logs", "train_file") == []


def test_no_more_is_kept_than_a_list_shows(tmp_path: Path) -> None:
    for number in range(MOST_RECENT + 5):
        remember(tmp_path, "tokenizer", f"model {number}")
    assert len(recent(tmp_path, "tokenizer")) == MOST_RECENT
    for number in range(MOST_PRESETS + 5):
        remember_values(tmp_path, f"mine-{number}", {"epochs": number + 1})
    assert last_values(tmp_path, "mine-0") == {}
    assert last_values(tmp_path, f"mine-{MOST_PRESETS + 4}") == {"epochs": MOST_PRESETS + 5}


def test_last_values_are_those_of_the_preset_and_their_paths_recent(tmp_path: Path) -> None:
    remember_values(tmp_path, "sft-small", {"tokenizer": "my tokenizer", "learn_rate": 1e-3})
    remember_values(tmp_path, "sft", {"epochs": 2})
    assert last_values(tmp_path, "sft-small") == {"tokenizer": "my tokenizer", "learn_rate": 1e-3}
    assert recent(tmp_path, "tokenizer") == ["my tokenizer"]
    assert recent(tmp_path, "learn_rate") == []
    remember_values(tmp_path, "sft-small", {})
    assert last_values(tmp_path, "sft-small") == {}


@pytest.mark.parametrize("content", [
    "", "[]", "{", '{"recent": 3}', '{"recent": {"tokenizer": "x"}}', '{"values": {"sft": ["epochs"]}}',
    '{"recent": {"tokenizer": ["a\\u0000b"]}}', json.dumps({"recent": {"tokenizer": ["x" * 5000]}}), "[" * 9999,
])  # fmt: skip
def test_a_damaged_file_counts_as_none_and_is_replaced(content: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(content)
    assert recent(tmp_path, "tokenizer") == []
    assert last_values(tmp_path, "sft") == {}
    remember(tmp_path, "tokenizer", "a")
    assert recent(tmp_path, "tokenizer") == ["a"]


def test_values_that_no_version_accepts_are_left_out(tmp_path: Path) -> None:
    values = {"epochs": 0, "gone": 3, "learn_rate": "much", "seed": 1.5, "optimizer": "adamw", "lora_alpha": 8}
    (tmp_path / FILE).write_text(json.dumps({"values": {"sft": values}}))
    assert last_values(tmp_path, "sft") == {"optimizer": "adamw", "lora_alpha": 8}


def test_what_a_newer_version_keeps_stays(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps({"rows": {"x": 1}}))
    remember(tmp_path, "tokenizer", "a")
    assert json.loads((tmp_path / FILE).read_text())["rows"] == {"x": 1}


def test_a_link_in_the_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"recent": {"tokenizer": ["a"]}}))
    (tmp_path / FILE).symlink_to(other)
    assert recent(tmp_path, "tokenizer") == []
    remember(tmp_path, "tokenizer", "b")
    assert json.loads(other.read_text()) == {"recent": {"tokenizer": ["a"]}}


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file")
    remember(tmp_path / "logs", "tokenizer", "a")
    assert recent(tmp_path / "logs", "tokenizer") == []


def test_only_new_training_runs_are_remembered(tmp_path: Path) -> None:
    new = RunRecord("", "sft-small", "train", to_json(preset("sft-small").config), {"epochs": [3, 7]})
    remember_run(tmp_path, new)
    assert last_values(tmp_path, "sft-small") == {"epochs": 7}
    for job, resume in (("test", False), ("train", True)):
        remember_run(tmp_path, RunRecord("", "sft-small", job, new.config, {"epochs": [3, 9]}, resume=resume))
    assert last_values(tmp_path, "sft-small") == {"epochs": 7}
