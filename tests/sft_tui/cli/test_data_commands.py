"""The commands for data."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from sft_tui.cli.main import cli
from tests.engine.data.shapes.conftest import turns
from tests.processes import SFT_TUI, run


def test_own_data_can_be_imported_checked_and_shown(
    tmp_path: Path, tiny_settings: dict[str, Any], tiny_tokenizer: Path
) -> None:
    rows = pq.read_table(tiny_settings["train_file"]).to_pylist()
    records = [{"instruction": row["prompt"], "input": str(i), "output": row["response"]} for i, row in enumerate(rows)]
    (tmp_path / "mine.json").write_text(json.dumps(records, ensure_ascii=False))
    targets = ("--train", "data/train.parquet", "--valid", "data/valid.parquet")
    looked = run(*SFT_TUI, "data", "import", "mine.json", "--preview", folder=tmp_path)
    assert looked.code == 0, looked.err
    assert not (tmp_path / "data").exists()
    done = run(*SFT_TUI, "data", "import", "mine.json", *targets, "--valid-ratio", "0.2", folder=tmp_path)
    assert done.code == 0, done.err
    assert "alpaca" in done.out
    written = [pq.read_metadata(tmp_path / "data" / f"{name}.parquet").num_rows for name in ("train", "valid")]
    assert sum(written) == len(rows)
    again = run(*SFT_TUI, "data", "import", "mine.json", *targets, folder=tmp_path)
    assert again.code == 2
    assert "--overwrite" in again.err
    tokenizer = ("--tokenizer", str(tiny_tokenizer))
    checked = run(*SFT_TUI, "data", "check", "data/train.parquet", *tokenizer, folder=tmp_path)
    assert f"{written[0]:,} rows" in checked.out
    show = (*SFT_TUI, "data", "show", "data/train.parquet", *tokenizer)
    shown = run(*show, "--row", "1", "--max_seq_len", "4", folder=tmp_path)
    assert "prompt: " in shown.out
    assert "4 kept" in shown.out
    assert "[EOS]=1" in shown.out
    beyond = run(*show, "--row", "9999", folder=tmp_path)
    assert beyond.code == 2
    assert "has no row 9999" in beyond.err


@pytest.mark.parametrize(
    ("options", "columns"),
    [
        ((), ["messages"]),
        (("--as", "pairs"), ["prompt", "response", "prompt_turns"]),
        (("--history", "none"), ["prompt", "response"]),
    ],
)
def test_a_person_chooses_what_becomes_of_conversations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], columns: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("talk.json").write_text(json.dumps([{"messages": turns("甲", "1", "乙", "2")}]))
    done = CliRunner().invoke(cli, ["data", "import", "talk.json", "--train", "t.parquet", *options])
    assert done.exit_code == 0, done.output
    assert pq.read_schema("t.parquet").names == columns


def test_earlier_turns_cannot_be_limited_in_whole_conversations(tmp_path: Path) -> None:
    (tmp_path / "talk.json").write_text("[]")
    asked = ["data", "import", str(tmp_path / "talk.json"), "--as", "messages", "--history", "2"]
    done = CliRunner().invoke(cli, asked)
    assert done.exit_code == 2
    assert "--as pairs" in done.output
