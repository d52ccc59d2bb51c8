"""What an import from the screen is asked for: typed values, and the files that it writes."""

from pathlib import Path

import pytest

from sft_tui.import_plan import FieldError, ImportPlan


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan(**typed: str) -> ImportPlan:
    usual = ImportPlan.of("rows.jsonl")
    return ImportPlan(usual.source, {**usual.typed, **typed}, usual.columns)


def test_the_files_are_those_of_the_chat_presets_until_they_exist(folder: Path) -> None:
    assert plan().typed["train"] == "data/chat_train.parquet"
    (folder / "data").mkdir()
    (folder / "data" / "chat_valid.parquet").write_text("x")
    assert plan().typed["train"] == "rows_train.parquet"
    assert plan().typed["test"] == "rows_test.parquet"


def test_usual_values_are_a_request() -> None:
    how = plan().request()
    assert (how["valid_ratio"], how["test_ratio"], how["sample"]) == (0.1, 0.05, 0)
    assert "form" not in how
    assert plan().split(200) == {"train": 170, "valid": 20, "test": 10}


def test_a_part_without_a_share_or_a_file_is_not_written() -> None:
    how = plan(test_ratio="0", valid="").request()
    assert (how["test"], how["valid"], how["valid_ratio"]) == ("", "", 0.0)


@pytest.mark.parametrize(("typed", "history"), [("all", None), ("none", 0), (" 3 ", 3)])
def test_a_history_makes_pairs(typed: str, history: int | None) -> None:
    how = plan(history=typed).request()
    assert (how["history"], how["form"]) == (history, "pairs")


@pytest.mark.parametrize(("field", "value"), [
    ("sample", "-1"), ("sample", "many"), ("sample", "1" * 10), ("valid_ratio", "0.95"), ("valid_ratio", "nan"),
    ("test_ratio", "x"), ("history", "some"), ("train", " "),
])  # fmt: skip
def test_a_wrong_value_names_its_field(field: str, value: str) -> None:
    with pytest.raises(FieldError) as error:
        plan(**{field: value}).request()
    assert error.value.field == field


def test_shares_must_leave_something_and_may_be_percentages() -> None:
    assert plan(valid_ratio="20 %").request()["valid_ratio"] == 0.2
    with pytest.raises(FieldError) as error:
        plan(valid_ratio="0.5", test_ratio="50%").request()
    assert "nothing to train on" in error.value.message.what()


def test_a_sample_is_split() -> None:
    assert plan(sample="100").split(200) == {"train": 85, "valid": 10, "test": 5}
