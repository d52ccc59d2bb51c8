"""The process that the app asks about foreign files: one answer to each line of its input."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from engine.contract.config import override, to_json
from engine.contract.presets import preset
from engine.contract.requests import DataRequest, ModelRequest, RowRequest, request_line


def test_each_request_gets_its_answer_and_errors_end_with_two(tmp_path: Path, tiny_tokenizer: Path) -> None:
    pq.write_table(pa.table({"prompt": ["你好"], "response": ["你好！"]}), tmp_path / "rows.parquet")
    values = {"train_file": str(tmp_path / "rows.parquet"), "tokenizer": str(tiny_tokenizer)}
    more = {"token_store": str(tmp_path / "store"), "pretrained_model": str(tmp_path / "gone")}
    config = to_json(override(preset("sft-small").config, {**values, **more})[0])
    asked = [DataRequest(config, ("train_file",), 1), ModelRequest(config), RowRequest(config, "train_file", 0)]
    done = subprocess.run(
        [sys.executable, "-m", "engine.inspect"], input=b"".join(map(request_line, asked)), capture_output=True,
        timeout=60, check=False,
    )  # fmt: skip
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    data, model, row = [line for line in lines if "doing" not in line]
    assert data["facts"]["train_file"]["rows"] == 1
    assert model["error"]["code"] == "file_missing"
    assert row["facts"]["pairs"][0]["prompt"]["text"] == "你好"
    assert done.returncode == 2
