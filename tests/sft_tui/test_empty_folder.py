"""From an empty folder to a run: what the check names, in its order, by the commands that it gives."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from engine.contract.presets import preset
from sft_tui.preflight.missing import source_of_rows
from tests.processes import SFT_TUI, run

ENV = {"ACCELERATE_USE_CPU": "true"}
MORE = {"run": ["--epochs", "1", "--max_new_tokens", "4", "--max_seq_len", "32"]}  # so that it takes seconds


def check(folder: Path, *arguments: str) -> dict[str, Any]:
    result = run(*SFT_TUI, *arguments, "--json", folder=folder, env=ENV)
    body: dict[str, Any] = json.loads(result.out)
    assert result.code == (2 if body["errors"] else 0)
    return body


@pytest.mark.slow
def test_the_commands_of_the_check_lead_from_nothing_to_a_run(tmp_path: Path) -> None:
    pytest.importorskip("chatterbot_corpus", reason="NOT TESTED: chatterbot-corpus is not installed")
    arguments = ["check", "sft-small"]
    ran = []
    for _ in range(6):
        errors = [finding for finding in check(tmp_path, *arguments)["findings"] if finding["level"] == "error"]
        if not errors:
            break
        for command in errors[0]["commands"]:
            program, *words = command
            assert program == "sft-tui"
            ran.append(words[0] if words[0] != "data" else words[1])
            if words[0] == "check":
                arguments = words  # what is checked from now on
                continue
            result = run(*SFT_TUI, *words, *MORE.get(words[0], []), folder=tmp_path, env=ENV, limit=240)
            assert result.code == 0, (command, result.err)
    assert ran == ["demo", "tokenizer", "run", "check"]
    result = run(*SFT_TUI, "run", *arguments[1:], *MORE["run"], folder=tmp_path, env=ENV, limit=240)
    assert result.code == 0, result.err
    assert (tmp_path / "model_save" / "sft_small" / "best" / "model.safetensors").is_file()


def test_existing_rows_are_imported_and_split(tmp_path: Path) -> None:
    rows = [{"prompt": f"问题 {number}", "response": f"回答 {number}"} for number in range(40)]
    (tmp_path / "mine.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (first, *_) = check(tmp_path, "check", "sft-small")["findings"]
    assert first["command"] == "sft-tui data import mine.jsonl"
    run(*SFT_TUI, *shlex.split(first["command"])[1:], folder=tmp_path)
    (tmp_path / "data" / "sft_train_small_valid.parquet").unlink()
    (second, *_) = check(tmp_path, "check", "sft-small")["findings"]
    assert second["subject"] == "validation_file"
    assert run(*SFT_TUI, *second["commands"][0][1:], folder=tmp_path).code == 0
    assert (tmp_path / "data" / "sft_train_small_valid.parquet").is_file()


def test_only_json_that_may_hold_rows_is_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    row = json.dumps({"prompt": "问", "response": "答"}, ensure_ascii=False)
    settings = {"package.json": '{\n "name": "x"\n}', "one.json": '{"name": "x"}\n', "empty.json": "", "bad.json": "{"}
    for name, text in settings.items():
        Path(name).write_text(text, encoding="utf-8")
    assert source_of_rows(preset("sft-small").config) is None
    for text in (f"{row}\n{row}\n", f"\n [\n{row}]"):
        Path("rows.json").write_text(text, encoding="utf-8")
        assert source_of_rows(preset("sft-small").config) == Path("rows.json")


def test_a_path_with_braces_is_shown_as_it_is(tmp_path: Path) -> None:
    body = check(tmp_path, "check", "sft-small", "--train_file", "{x}.parquet", "--tokenizer", "{advice}")
    text = json.dumps(body)
    assert "--train '{x}.parquet'" in text
    assert "{advice}" in text
