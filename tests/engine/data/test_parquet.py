"""Columns of text out of Parquet files."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.contract.messages import InputError
from engine.data import parquet


def declaring(path: Path, rows: int) -> Path:
    """A file of 20 rows whose footer declares another number of them, below 64."""
    texts = [f"row {number}" for number in range(20)]
    pq.write_table(pa.table({"prompt": texts, "response": texts}), path, compression="none")
    content = path.read_bytes()
    start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    footer = content[start:-8].replace(bytes([0x16, 20 * 2]), bytes([0x16, rows * 2]))  # a 64-bit field, zigzag
    path.write_bytes(content[:start] + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    return path


@pytest.mark.parametrize("rows", [60, 21])
def test_a_file_with_fewer_rows_than_declared_is_refused(tmp_path: Path, rows: int) -> None:
    path = declaring(tmp_path / "rows.parquet", rows)
    file = parquet.opened(path)
    assert file.metadata.num_rows == rows
    with pytest.raises(InputError) as refused:
        list(parquet.texts(path, file, "prompt", "response", "prompt_turns"))
    assert (refused.value.message.code, refused.value.message.args["path"]) == ("parquet_bad", str(path))


def test_a_file_with_the_declared_rows_is_read(tmp_path: Path) -> None:
    path = declaring(tmp_path / "rows.parquet", 20)
    read = list(parquet.texts(path, parquet.opened(path), "prompt", "response", "prompt_turns"))
    assert sum(len(batch.prompts) for batch in read) == 20
