"""What an import writes: checksums, nothing over an existing file, columns of turns."""

import errno
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from engine.contract.inputs import ImportForm
from engine.contract.messages import InputError
from engine.contract.requests import ImportRequest
from engine.data.importing import writing
from engine.data.importing.convert import import_files, import_pairs
from engine.data.parquet_rows import RowSource
from tests.engine.data.conftest import GOOD, LONG_TALK, Importer, lines
from tests.engine.data.shapes.conftest import turns


def test_what_is_written_carries_checksums(import_rows: Importer, many: str, tmp_path: Path) -> None:
    import_rows(many)
    path = tmp_path / "train.parquet"
    data = bytearray(path.read_bytes())
    data[60] ^= 1
    path.write_bytes(data)
    source = RowSource(path, "train_file", "prompt", "response")
    with pytest.raises(InputError) as refused:
        list(source.batches(source.open()))
    assert refused.value.message.code == "parquet_bad"


def test_an_existing_file_is_not_overwritten_unasked(import_rows: Importer, tmp_path: Path) -> None:
    import_rows(GOOD)
    before = (tmp_path / "train.parquet").read_bytes()
    with pytest.raises(InputError) as refused:
        import_rows(lines({"prompt": "x", "response": "y"}), overwrite=False)
    assert refused.value.message.code == "import_exists"
    assert (tmp_path / "train.parquet").read_bytes() == before


def test_a_folder_that_cannot_be_written_is_named(import_rows: Importer) -> None:
    with pytest.raises(InputError) as refused:
        import_rows(GOOD, train="/dev/null/train.parquet")
    assert refused.value.message.code == "folder_unwritable"


@pytest.mark.parametrize("failing", ["tempfile.TemporaryFile", "engine.data.importing.targets.sync"])
def test_the_target_is_named_not_the_temporary_file(
    import_rows: Importer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def refused(path: object = None, **_how: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path or tmp_path / "tmp4gtvi72k"))

    target = str(tmp_path / "train.parquet")
    monkeypatch.setattr(failing, refused)
    with pytest.raises(InputError) as error:
        import_rows(GOOD, train=target)
    assert error.value.message.args["path"] == target


def test_pairs_made_from_files_are_written_like_any(tmp_path: Path) -> None:
    target = tmp_path / "out.parquet"
    found = import_pairs(
        ImportRequest(files=("rows.parquet",), train=str(target), valid=""), iter([("问", "答"), ("问", "答")])
    )
    assert found.rows == 1
    assert target.is_file()


def test_the_turns_column_is_written_only_if_a_row_has_history(import_rows: Importer, tmp_path: Path) -> None:
    import_rows(lines(LONG_TALK), history=0)
    assert pq.read_schema(tmp_path / "train.parquet").names == ["prompt", "response"]
    import_rows(lines(LONG_TALK, {"prompt": "你好", "response": "你好！"}))
    written = pq.read_table(tmp_path / "train.parquet")
    assert written.schema.names == ["prompt", "response", "prompt_turns"]
    starts = dict(zip(written["prompt"].to_pylist(), written["prompt_turns"].to_pylist(), strict=True))
    assert starts["你好"] is starts["简短\n甲"] is None
    assert starts["简短\nQ: 甲\nA: 1\nQ: 乙"] == [3, 8, 13]


@pytest.mark.parametrize("form", ["pairs", "messages"])
def test_long_rows_are_held_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: ImportForm) -> None:
    monkeypatch.setattr(writing, "GROUP_CHARACTERS", 50)
    talks = [{"messages": turns(f"问 {number}" * 9, f"答 {number}", "再问", "再答")} for number in range(20)]
    path = tmp_path / "rows.jsonl"
    path.write_text(lines(*talks))
    target = str(tmp_path / "out.parquet")
    import_files(ImportRequest((str(path),), train=target, valid_ratio=0.0, form=form), lambda *_: None)
    written = pq.read_table(target)
    assert pq.read_metadata(target).num_row_groups > 1
    if form == "messages":
        assert written["messages"].to_pylist() == [talk["messages"] for talk in talks]
    else:
        assert written["response"].to_pylist() == [text for n in range(20) for text in (f"答 {n}", "再答")]
