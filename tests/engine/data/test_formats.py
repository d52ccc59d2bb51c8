"""Files of other formats are recognized by their content."""

import os
import pickle
import sqlite3
import zipfile
from pathlib import Path

import pytest

from engine.contract.messages import InputError
from engine.data.formats import content_of
from tests.engine.data.conftest import Reader


def foreign(tmp_path: Path) -> dict[str, Path]:
    """Files that hold no rows that can be read, by their kinds."""
    made = {
        "pickle": pickle.dumps({"prompt": ["a"]}), "lfs": b"version https://git-lfs.github.com/spec/v1\noid x\n",
        "html": b"\n<!DOCTYPE html><html>Sign in</html>", "pdf": b"%PDF-1.7\n",
        "xls": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    }  # fmt: skip
    paths = {kind: tmp_path / f"{kind}.csv" for kind in ("xlsx", "zip", "sqlite", *made)}
    for kind, content in made.items():
        paths[kind].write_bytes(content)
    for kind, member in (("xlsx", "xl/workbook.xml"), ("zip", "rows.csv")):
        with zipfile.ZipFile(paths[kind], "w") as archive:
            archive.writestr(member, "x")
    base = sqlite3.connect(paths["sqlite"])
    base.execute("create table rows (prompt, response)")
    base.commit()
    base.close()
    return paths


def test_a_file_of_another_kind_is_named_with_what_to_do(read: Reader, tmp_path: Path) -> None:
    for kind, path in foreign(tmp_path).items():
        assert content_of(path).kind == kind
        with pytest.raises(InputError) as refused:
            read(path)
        assert refused.value.message.code == "source_foreign"
        assert refused.value.message.fix("zh")
    with pytest.raises(InputError) as refused:
        read(tmp_path / "nowhere*.csv")
    assert refused.value.message.code == "source_missing"


def test_a_terabyte_hole_is_refused_at_once(tmp_path: Path, read: Reader) -> None:
    for name in ("rows.jsonl", "rows.csv", "rows.parquet"):
        (tmp_path / name).touch()
        os.truncate(tmp_path / name, 1 << 40)
        with pytest.raises(InputError) as refused:
            read(tmp_path / name)
        assert refused.value.message.code == "source_foreign"
