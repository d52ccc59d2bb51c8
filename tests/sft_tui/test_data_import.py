"""What `data import` prints and reads in addition to files: its account in both languages, and pipes."""

import io
import os
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine.contract.messages import InputError
from engine.contract.requests import ImportRequest
from engine.data.importing.convert import import_files
from sft_tui import data_import, spool

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


@pytest.mark.parametrize("name", ["-", "fifo"])
def test_rows_can_come_through_a_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(LINES.encode())))
    named = name if name == "-" else str(fifo)
    writer = threading.Thread(target=fifo.write_text, args=(LINES,), daemon=True)
    writer.start()
    found = data_import.import_rows([named])
    assert (found.records, found.kept) == (3, 1)
    assert [file.path for file in found.files] == [named]


def test_an_endless_pipe_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10_000_000))
    assert spool.is_stream("/dev/zero")
    with ExitStack() as stack, pytest.raises(InputError) as refused:
        spool.spooled("/dev/zero", stack)
    assert refused.value.message.code == "source_endless"


def test_the_next_command_leaves_out_a_file_without_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text(LINES)
    found = import_files(ImportRequest(("rows.jsonl",), train="-t.parquet", valid="v.parquet"), lambda *_: None)
    *_, written, unfilled, unvalidated, following = data_import.lines(found, "en")
    assert written == "1 row written to -t.parquet"
    assert unfilled == "v.parquet was not written: no rows are held out for it"
    assert "--validation_file" in unvalidated
    assert following == "Next: `sft-tui data check ./-t.parquet`"
