"""The commands for data."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

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
