"""Rows and tokenizers made of foreign files."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.contract.messages import InputError
from engine.contract.requests import ImportRequest, TokenizerRequest, request_line
from engine.inspecting import made_files


def test_an_import_does_not_hold_the_file_in_memory(tmp_path: Path) -> None:
    rows = 80_000
    texts = np.random.default_rng(0).bytes(rows * 1000).hex()
    column = [texts[place * 2000 : place * 2000 + 2000] for place in range(rows)]
    path = tmp_path / "large.parquet"
    pq.write_table(
        pa.table({"prompt": ["x"] * rows, "response": column}), path, compression="none", row_group_size=rows
    )
    assert path.stat().st_size > 150e6
    script = (
        "import re, sys\nfrom engine.contract.requests import read_task\nfrom engine.inspect import answer\n"
        "found = answer(read_task(sys.stdin.read())[1])\n"
        "print(found.rows, re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])"
    )
    train, valid = (str(tmp_path / name) for name in ("train.parquet", "valid.parquet"))
    request = request_line(ImportRequest((str(path),), train, valid)).decode()
    done = subprocess.run(
        [sys.executable, "-c", script], input=request, capture_output=True, text=True, timeout=120, check=True
    )
    found, peak = done.stdout.splitlines()[-1].split()
    assert int(found) == rows
    # Up to 293 MB was seen, on a busy machine, whose threads run ahead of each other; with whole columns held 439 MB.
    assert int(peak) * 1024 < 350e6


def test_a_tokenizer_is_trained_on_rows_spread_over_all_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made_files, "TOKENIZER_ROWS", 20)
    monkeypatch.setattr(made_files, "hide_torch", lambda: None)  # which would stay hidden from other tests
    files = [str(tmp_path / name) for name in ("a.parquet", "b.parquet")]
    for number, file in enumerate(files):
        rows = [f"{'甲乙'[number]}{place}" for place in range(50)]
        pq.write_table(pa.table({"prompt": rows, "response": rows}), file)
    request = TokenizerRequest(tuple(files), str(tmp_path / "made"), 300, "prompt", "response", "messages")
    report = made_files.new_tokenizer(request)
    assert 20 <= report.texts <= 40  # two of a row
    known = json.loads((tmp_path / "made" / "tokenizer.json").read_text())["model"]["vocab"]
    assert {"甲", "乙"} <= set("".join(known if isinstance(known, dict) else [piece for piece, _ in known]))


def test_a_tokenizer_needs_a_text(tmp_path: Path) -> None:
    pq.write_table(pa.table({"prompt": [""], "response": [""]}), tmp_path / "empty.parquet")
    request = TokenizerRequest(
        (str(tmp_path / "empty.parquet"),), str(tmp_path / "made"), 300, "prompt", "response", "messages"
    )
    with pytest.raises(InputError) as refused:
        made_files.new_tokenizer(request)
    assert refused.value.message.code == "rows_none"
    assert not (tmp_path / "made").exists()
