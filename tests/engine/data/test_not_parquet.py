"""A file that should be Parquet: what it is instead, and the command that imports it."""

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.contract.messages import InputError
from engine.data.not_parquet import require_parquet

LINE = b'{"prompt": "a", "response": "b"}\n'


def test_parquet_passes_under_any_name(tmp_path: Path) -> None:
    pq.write_table(pa.table({"prompt": ["a"]}), tmp_path / "rows.csv")
    require_parquet(tmp_path / "rows.csv")


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("rows.jsonl", LINE, "JSON Lines"), ("rows.csv", b"prompt,response\n", "CSV"), ("rows.TSV", b"a\tb\n", "TSV"),
        ("rows", b"\xef\xbb\xbf" + LINE, "JSON"), ("rows.parquet", "问题\t回答\n".encode("gb18030"), "text"),
        ("rows.txt", "prompt".encode("utf-16"), "text"), ("rows.jsonl.gz", gzip.compress(LINE, mtime=0), "gzip"),
    ],
    ids=["JSON Lines", "CSV", "TSV", "JSON with a mark", "GB18030", "UTF-16", "gzip"],
)  # fmt: skip
def test_rows_in_another_format_are_named_with_the_import(tmp_path: Path, name: str, content: bytes, kind: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError) as refused:
        require_parquet(path)
    assert refused.value.message.code == "not_parquet"
    assert kind in str(refused.value.message.args["kind"])
    assert refused.value.message.args["import_command"] == f"sft-tui data import {path}"


def test_a_name_with_spaces_is_quoted_in_the_command(tmp_path: Path) -> None:
    path = tmp_path / "my rows.jsonl"
    path.write_bytes(LINE)
    with pytest.raises(InputError) as refused:
        require_parquet(path)
    assert refused.value.message.args["import_command"] == f"sft-tui data import '{path}'"
