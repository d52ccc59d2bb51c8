"""Actions keep every name as it is, whatever stands in it: as words of a command, in a shell, and in a question."""

import shlex
from pathlib import Path

import pytest

from sft_tui.preflight.fix import Action, Command, Edit, Import, Open, Resume, Set, Start, as_path, command_of

HOSTILE = [
    "two && x.parquet",
    "it's.jsonl",
    '"so".csv',
    "line\nend.csv",
    "$(touch pwned)",
    "-rf",
    "--train",
    "",
    "空 格",
]


def every(name: str) -> list[Action]:
    return [
        Set("sft-small", {"train_file": name}, {"validation_file": name}),
        Import([as_path(name)], name, name, {"prompt_column": name}),
        Import([as_path(name)], preview=True),
        Edit(name, "eos_token", name),
        Open(name),
        Resume(name),
        Start("pretrain", {"tokenizer": name}, fresh=True),
        Command(("data", "show", name)),
    ]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_quoted_as_one_shell_word(name: str) -> None:
    for action in every(name):
        assert shlex.split(command_of([action])) == list(action.argv)
        assert {name, as_path(name)} & set(action.argv)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_question_shows_a_name_on_one_line(name: str) -> None:
    for action in every(name):
        for words in (action.words("en"), action.words("zh")):
            assert words.isprintable()


def test_a_question_says_what_changes_from_what_to_what() -> None:
    action = Set("sft-small", {"max_seq_len": 64}, {"max_seq_len": 118})
    assert action.words("en") == "Set max_seq_len 64 → 118"
    assert action.argv == ("sft-tui", "check", "sft-small", "--max_seq_len", "118")
    assert Set("sft-small", {"epochs": 5}, {"epochs": 5, "tokenizer": ""}).words("en").endswith("_sp/ → from the model")
    assert Set("sft-small", {}, {"epochs": 3}).words("en") == "Check again"


def test_default_targets_are_not_spelled_out(tmp_path: Path) -> None:
    usual = Import(["a.jsonl"], "data/sft_train_small_train.parquet", "data/sft_train_small_valid.parquet")
    assert usual.argv == ("sft-tui", "data", "import", "a.jsonl")
    assert usual.words("en").startswith("Import a.jsonl into data/sft_train_small_train.parquet")
    other = Import([str(tmp_path)], "x", "")
    assert other.argv[3:] == (str(tmp_path), "--train", "x", "--valid", "")
    assert other.words("en") == f"Import {tmp_path} into x"


def test_an_edit_of_a_file_is_a_line_that_people_can_read() -> None:
    path = "model/config.json"
    assert command_of([Edit(path, "pad_token_id", 0)]) == "sft-tui data edit model/config.json pad_token_id 0"
    assert command_of([Edit(path, "max_length", None)]) == "sft-tui data edit model/config.json --remove max_length"
    assert Edit(path, "pad_token_id", 0).words("en") == "Set pad_token_id to 0 in model/config.json"
    assert Edit(path, "max_length", None).words("zh") == "删除 model/config.json 中的 max_length"
