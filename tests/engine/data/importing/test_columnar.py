"""Parquet and Arrow files, and text in their binary columns."""

from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from tests.engine.data.conftest import ROWS, TABLE, Reader, places


@pytest.mark.parametrize("form", ["stream", "feather", "uncompressed", "large", "binary"])
def test_arrow_files_are_read(read: Reader, tmp_path: Path, form: str) -> None:
    path, table = tmp_path / "rows.any", TABLE
    if form == "large":
        table = table.cast(pa.schema([(name, pa.large_string()) for name in table.column_names]))
    if form == "binary":
        table = table.cast(pa.schema([(name, pa.binary()) for name in table.column_names]))
    if form == "stream":
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
    else:
        feather.write_feather(table, path, compression="uncompressed" if form == "uncompressed" else "lz4")
    assert read(path)[1] == ROWS


def test_utf8_in_binary_columns_is_read_and_other_bytes_refused(read: Reader, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"prompt": [b"a", "问".encode(), b"\xff"], "response": ["1", "2", "3"]}), path)
    found, came = read(path)
    assert came == [("a", "1"), ("问", "2")]
    assert places(found) == {"prompt_not_utf8": ["2"]}
