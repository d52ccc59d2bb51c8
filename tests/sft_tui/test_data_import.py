"""What `data import` prints and reads in addition to files: its account in both languages, and pipes."""

import json
from pathlib import Path

import pytest

from engine.contract.requests import ImportRequest
from engine.contract.texts import Lang
from engine.data.importing.convert import import_files
from sft_tui import data_import
from tests.engine.data.shapes.conftest import turns

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


@pytest.mark.parametrize(("lang", "learned", "written"), [
    ("en", "3 answers to learn in 2 conversations, kept whole", "2 conversations written to t.parquet"),
    ("zh", "2 段对话完整保留，其中 3 个回答要学习", "已写入 2 段对话到 t.parquet"),
])  # fmt: skip
def test_conversations_are_shown_turn_by_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lang: Lang, learned: str, written: str
) -> None:
    monkeypatch.chdir(tmp_path)
    records = [{"messages": turns("甲", "\x1b[2J1", "乙", "2"), "system": "简短"}, {"prompt": "a", "response": "b"}]
    Path("rows.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    found = import_files(ImportRequest(("rows.jsonl",), train="t.parquet", valid_ratio=0.0), lambda *_: None)
    said = list(data_import.lines(found, lang))
    shown = said.index("  system: 简短")
    assert said[shown + 1 : shown + 5] == ["    user: 甲", "    assistant: ␛[2J1", "    user: 乙", "    assistant: 2"]
    assert any(learned in line for line in said)
    assert written in said


@pytest.mark.parametrize("form", ["messages", "pairs"])
def test_rows_may_be_checked_for_models_of_either_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.chdir(tmp_path)
    pairs = [{"prompt": f"问 {number}", "response": "答"} for number in range(20)]
    records = pairs if form == "pairs" else [{"messages": turns(pair["prompt"], "答")} for pair in pairs]
    Path("rows.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    found = import_files(ImportRequest(("rows.jsonl",), train="t.parquet", valid="v.parquet"), lambda *_: None)
    files = "--train_file t.parquet --validation_file v.parquet"
    assert found.form == form
    following = list(data_import.lines(found, "en"))[-2:]
    assert following[:: 1 if form == "messages" else -1] == [
        f"Next, for a chat model: `sft-tui check chat {files}`",
        f"Next, for an encoder-decoder model: `sft-tui check sft-small {files}`",
    ]
