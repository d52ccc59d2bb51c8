"""What may be written is asked before anything is, and all files are replaced or none."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from engine.contract.import_report import ImportReport
from engine.contract.messages import InputError
from engine.contract.requests import ImportRequest
from engine.data.importing.convert import import_files

Import = Callable[..., ImportReport]
FILES = {"train": "train.parquet", "valid": "valid.parquet", "test": "test.parquet"}


@pytest.fixture
def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Import]:
    """Imports a hundred rows of a name from `rows.jsonl` in a folder of its own; nothing but files by name stays."""
    monkeypatch.chdir(tmp_path)

    def import_rows(name: str = "a", source: str = "rows.jsonl", **how: Any) -> ImportReport:
        if not os.path.lexists(source):
            lines = (f'{{"prompt": "{name}{n}", "response": "x"}}\n' for n in range(100))
            Path(source).write_text("".join(lines))
        request = ImportRequest((source,), **{**FILES, "valid_ratio": 0.2, "test_ratio": 0.1, **how})
        return import_files(request, lambda *_: None)

    yield import_rows
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]


def prompts(path: str) -> set[str]:
    """The prompts of a file."""
    return set(pq.read_table(path).column("prompt").to_pylist())


def contents() -> dict[str, bytes]:
    """All files below the current folder."""
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


def test_three_files_share_no_prompt_and_miss_none(imported: Import) -> None:
    found = imported()
    parts = [prompts(path) for path in FILES.values()]
    assert [len(part) for part in parts] == [70, 20, 10] == [found.rows_of(part) for part in FILES]
    assert len(set.union(*parts)) == 100


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ({"valid": "train.parquet"}, "targets_equal"),
        ({"valid": "./x/../train.parquet"}, "targets_equal"),
        ({"test": "link.parquet"}, "targets_equal"),
        ({"train": "rows.jsonl"}, "target_is_source"),
        ({"valid": "x/../rows.jsonl"}, "target_is_source"),
        ({"test": "soft.jsonl"}, "target_is_source"),
        ({"test": "hard.jsonl"}, "target_is_source"),
        ({"train": "folder"}, "target_not_file"),
        ({"train": "new/x.parquet", "valid": "new"}, "target_not_file"),
        ({"valid": "/dev/null"}, "target_not_file"),
        ({"test": "there.parquet", "overwrite": False}, "import_exists"),
        ({"train": "/dev/null/x.parquet"}, "folder_unwritable"),
        ({"train": "x" * 300}, "folder_unwritable"),
        ({"train": "new/folder/x.parquet", "valid": "there.parquet/x.parquet"}, "folder_unwritable"),
    ],
)
def test_an_impossible_target_is_refused_before_writing(imported: Import, how: dict[str, Any], code: str) -> None:
    imported(train="", valid="", test="")
    Path("folder").mkdir()
    Path("there.parquet").write_text("mine")
    Path("link.parquet").symlink_to("train.parquet")
    Path("soft.jsonl").symlink_to("rows.jsonl")
    os.link("rows.jsonl", "hard.jsonl")
    before = contents()
    with pytest.raises(InputError) as refused:
        imported(**{"overwrite": True, **how})
    assert refused.value.message.code == code
    assert contents() == before
    assert not Path("new").exists()


def test_folders_are_created_and_links_written_through(imported: Import) -> None:
    Path("disk").mkdir()
    Path("train.parquet").symlink_to("disk/big.parquet")
    imported(valid="missing/../a/b/valid.parquet")
    assert Path("train.parquet").is_symlink()
    assert len(prompts("disk/big.parquet")) == 70
    assert len(prompts("a/b/valid.parquet")) == 20


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("failing", [1, 2, 3])
@pytest.mark.parametrize("known", ["train.parquet", "valid.parquet", "all", "none"])
def test_if_one_file_cannot_be_renamed_nothing_changes(
    imported: Import, monkeypatch: pytest.MonkeyPatch, failing: int, known: str, links: bool
) -> None:
    imported("a", train="", valid="", test="")
    for path in FILES.values() if known == "all" else [known] if known != "none" else []:
        Path(path).write_text(f"old {path}")
    before, rename, done = contents(), Path.rename, 0

    def some(self: Path, target: Path) -> Path:
        nonlocal done
        done += Path(target).name in FILES.values()
        if done == failing:
            done += 1
            raise OSError(28, "No space left on device")
        return rename(self, target)

    def without_links(*_: Any) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "rename", some)
    if not links:
        monkeypatch.setattr(os, "link", without_links)
    with pytest.raises(InputError) as refused:
        imported(overwrite=True)
    assert refused.value.message.code == "folder_unwritable"
    assert "No space left" in refused.value.message.text()
    assert contents() == before


def test_an_import_of_nothing_leaves_files_and_folders_alone(imported: Import) -> None:
    Path("train.parquet").write_text("mine")
    Path("bad.jsonl").write_text('{"prompt": 1}\n')
    before = contents()
    with pytest.raises(InputError):
        imported(source="bad.jsonl", valid="new/valid.parquet", overwrite=True)
    assert contents() == before
    assert not Path("new").exists()


def test_leftovers_of_a_killed_import_are_removed_by_the_next(imported: Import) -> None:
    Path(".tmp-sft-train.parquet-999999999").write_text("half")
    Path(".tmp-sft-train.parquet-99999999x").write_text("somebody's")
    imported()
    assert not Path(".tmp-sft-train.parquet-999999999").exists()
    Path(".tmp-sft-train.parquet-99999999x").unlink()


def test_only_an_imported_test_file_is_replaced(imported: Import) -> None:
    Path("test.parquet").write_text("the project's own")
    found = imported(spare_test=True)
    assert (found.spared, found.test, found.train_rows) == ("test.parquet", "", 80)
    assert Path("test.parquet").read_text() == "the project's own"
    Path("test.parquet").unlink()
    imported(overwrite=True, spare_test=True)
    again = imported(overwrite=True, spare_test=True, seed=5)
    assert (again.spared, again.test_rows) == ("", 10)


@pytest.mark.parametrize(("rows", "parts"), [(1, ["train"]), (2, ["train", "valid"]), (3, ["train", "valid", "test"])])
def test_a_part_without_rows_is_not_written(imported: Import, rows: int, parts: list[str]) -> None:
    Path("few.jsonl").write_text("".join(f'{{"prompt": "{n}", "response": "x"}}\n' for n in range(rows)))
    found = imported(source="few.jsonl")
    assert [part for part in FILES if found.file(part)] == parts
    assert found.unfilled == {part: path for part, path in FILES.items() if part not in parts}
    assert [part for part, path in FILES.items() if Path(path).exists()] == parts
    assert all(prompts(FILES[part]) for part in parts)


def test_an_old_validation_file_is_not_left_next_to_new_rows(imported: Import) -> None:
    imported()
    before = contents()
    with pytest.raises(InputError) as refused:
        imported(overwrite=True, valid_ratio=0.0)
    assert refused.value.message.code == "target_without_rows"
    assert "--valid ''" in refused.value.message.text()
    assert contents() == before
    imported(overwrite=True, valid="")
    assert Path("valid.parquet").read_bytes() == before["valid.parquet"]
