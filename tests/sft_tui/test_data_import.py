"""What `data import` prints and reads in addition to files: its account in both languages, and pipes."""

from pathlib import Path

import pytest

from engine.contract.requests import ImportRequest
from engine.data.importing.convert import import_files
from sft_tui import data_import

LINES = '{"prompt": "a", "response": "b"}\n' * 2 + '{"prompt": "c"\n'


def test_the_import_summary_adds_up(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(LINES)
    found = import_files(ImportRequest((str(path),)), lambda *_: None)
    english = "\n".join(data_import.lines(found, "en"))
    assert "3 records read = 2 used (prompt/response 2) + 1 refused" in english
    assert "1 refused: broken JSON (first: rows.jsonl:3)" in english
    assert "2 rows made = 1 kept + 1 repeated" in english
    chinese = "\n".join(data_import.lines(found, "zh"))
    assert "读取 3 条记录 = 使用 2 条" in chinese
    assert "1 条无法使用：JSON 有误（最先见于 rows.jsonl:3）" in chinese


def test_the_next_command_leaves_out_a_file_without_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text(LINES)
    found = import_files(ImportRequest(("rows.jsonl",), train="-t.parquet", valid="v.parquet"), lambda *_: None)
    *_, written, unfilled, unvalidated, following = data_import.lines(found, "en")
    assert written == "1 row written to -t.parquet"
    assert unfilled == "v.parquet was not written: no rows are held out for it"
    assert "--validation_file" in unvalidated
    assert following == "Next: `sft-tui data check ./-t.parquet`"
