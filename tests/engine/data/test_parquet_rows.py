"""Data files and their columns, opened."""

from pathlib import Path
from typing import Any

import pytest

from engine.contract.messages import InputError
from engine.data.parquet_rows import RowSource
from tests.engine.data.conftest import REPLIES, TEXTS, bad_file

UNREADABLE = {
    "missing": "source_unreadable",
    "folder": "source_unreadable",
    "empty_file": "parquet_bad",
    "not_parquet": "not_parquet",
    "truncated": "parquet_bad",
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "rows.parquet"
    bad_file(path, kind)
    with pytest.raises(InputError) as refused:
        RowSource(path, "train_file", "prompt", "response").open()
    assert refused.value.message.code == UNREADABLE[kind]
    assert str(path) in refused.value.message.text()


def test_a_missing_column_is_named_with_those_that_exist(write: Any) -> None:
    source = write(question=TEXTS, response=REPLIES)
    with pytest.raises(InputError) as refused:
        source.open()
    assert refused.value.message.code == "column_missing"
    assert refused.value.message.args["columns"] == "question, response"
    assert "--prompt_column" in refused.value.message.fix()


@pytest.mark.parametrize("values", [[1, 2], [b"a", b"b"], [["a"], ["b"]], [None, None], [1.5, None]])
def test_a_column_that_is_no_text_is_refused(write: Any, values: list[Any]) -> None:
    source = write(prompt=["a", "b"], response=values)
    with pytest.raises(InputError) as refused:
        source.open()
    assert refused.value.message.code == "column_not_text"
    assert refused.value.message.args["column"] == "response"
