"""A folder, a pattern or a file as a list of files to import."""

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.contract.import_report import ImportReport
from engine.contract.messages import InputError
from tests.engine.data.conftest import LINES, ROWS, TABLE, Reader
from tests.permissions import enforced


def passed_over(found: ImportReport) -> dict[str, str]:
    """The files of a folder that were not read, and why."""
    reasons = ((code, part) for code, entry in found.passed_over.items() for part in entry.details)
    return {Path(path).name: f"{code} {part.detail}".rstrip() for code, part in reasons for path in part.places}


def test_a_folder_of_shards_is_read_in_order(read: Reader, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    (folder / "data").mkdir(parents=True)
    for number in range(3):
        pq.write_table(TABLE.slice(number * 7, 7), folder / "data" / f"train-{number:05d}-of-00003.parquet")
    pq.write_table(TABLE, folder / "data" / "test-00000-of-00001.parquet")
    for name in ("README.md", ".gitattributes", "dataset_infos.json", "empty.csv"):
        (folder / name).write_text("{}" if name.endswith("json") else "# x" if name != "empty.csv" else "")
    found, came = read(folder)
    assert came == ROWS
    assert [file.records for file in found.files] == [7, 7, 6]
    assert passed_over(found) == {
        "README.md": "other_name", ".gitattributes": "hidden", "dataset_infos.json": "metadata", "empty.csv": "empty",
        "test-00000-of-00001.parquet": "other_split test",
    }  # fmt: skip
    assert read(Path(f"{folder}/data/t*t-*.parquet"))[1] == ROWS


def saved(folder: Path, table: pa.Table) -> None:
    """A folder as `save_to_disk` of `datasets` leaves it, with a file that it keeps for itself."""
    folder.mkdir(parents=True)
    listed = []
    for number in range(2):
        name = f"data-{number:05d}-of-00002.arrow"
        with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table.slice(number * 10, 10))
        listed.append({"filename": name})
    (folder / "state.json").write_text(json.dumps({"_data_files": listed}))
    (folder / "dataset_info.json").write_text("{}")
    (folder / "cache-1234.arrow").write_bytes((folder / name).read_bytes())


def test_a_save_to_disk_folder_is_read(read: Reader, tmp_path: Path) -> None:
    saved(tmp_path / "one", TABLE)
    found, came = read(tmp_path / "one")
    assert came == ROWS
    assert passed_over(found) == {"cache-1234.arrow": "not_listed"}
    saved(tmp_path / "splits" / "train", TABLE)
    saved(tmp_path / "splits" / "test", TABLE)
    (tmp_path / "splits" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    found, came = read(tmp_path / "splits")
    assert (came, found.repeated) == (ROWS, 0)
    assert passed_over(found)["test"] == "other_split test"


def test_a_folders_metadata_is_not_waited_for_or_read_endlessly(tmp_path: Path, read: Reader) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "rows.jsonl").write_text(LINES)
    os.mkfifo(folder / "state.json")
    (folder / "dataset_dict.json").symlink_to("/dev/zero")
    found, came = read(folder)
    assert came == ROWS
    assert passed_over(found) == {"state.json": "metadata", "dataset_dict.json": "metadata"}


def test_an_unreadable_subfolder_is_named(tmp_path: Path, read: Reader) -> None:
    closed = tmp_path / "set/closed"
    closed.mkdir(parents=True)
    (tmp_path / "set/rows.jsonl").write_text(LINES)
    closed.chmod(0)
    with enforced(), pytest.raises(InputError, match="set/closed cannot be read: Permission denied"):
        read(tmp_path / "set")


def test_a_folder_with_too_many_files_is_refused_as_that(read: Reader, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("engine.data.importing.sources.MOST", 3)
    for number in range(4):
        (tmp_path / f"{number}.jsonl").write_text(LINES)
    with pytest.raises(InputError) as refused:
        read(tmp_path)
    assert "more than 3 files" in refused.value.message.what()
    assert "*.jsonl" in refused.value.message.fix("en")
