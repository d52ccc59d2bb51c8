"""`sft-tui here`: what lies in the folder, and the next steps."""

import json
from pathlib import Path

from tests.processes import SFT_TUI, run


def test_a_folder_with_rows_is_named_with_its_next_step(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text('{"question": "What?", "answer": "That."}\n' * 20)
    found = json.loads(run(*SFT_TUI, "here", "--json", folder=tmp_path).out)
    assert found["data"][0]["about"]["rows"] == 20
    assert found["next"][0] == {"what": "import", "subject": "data.jsonl", "command": "sft-tui data import data.jsonl"}


def test_an_empty_folder_offers_the_demo(tmp_path: Path) -> None:
    out = run(*SFT_TUI, "here", folder=tmp_path).out
    assert "Nothing here yet" in out
    assert "sft-tui demo" in out
