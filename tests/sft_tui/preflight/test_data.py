"""What the facts on a data file mean for a run."""

from typing import Any

from engine.contract.config import override
from engine.contract.presets import preset
from sft_tui.preflight.data import file_findings


def lengths(longest: int) -> dict[str, Any]:
    """The lengths of prompts or responses."""
    return {"longest": longest, "median": 9, "p95": 60, "histogram": {"counts": [5, 4]}}


def test_lost_turns_are_reported_with_the_length_that_keeps_them() -> None:
    none = {"rows": 0, "first": -1}
    facts: dict[str, Any] = {
        "rows": 9, "limit": 64, "turns_rows": 4, "turns_left_out": 11, "turns_longest": 300, "cut_rows": 1,
        "cut_tokens": 5, "cut_label_tokens": 0, "label_tokens": 90, "tokens": 900, "unknown_tokens": 0,
        "prompt": lengths(64), "label": lengths(69), "labels_empty": none, "repeated": none,
        "scripts": {"Han": 1.0}, "dropped": {}, "control_rows": 0, "replacement_rows": 0,
    }  # fmt: skip
    config, _ = override(preset("sft-small").config, {"train_file": "a.parquet"})
    found = {finding.code: finding for finding in file_findings(config, "train_file", facts)}
    turns, cut = found["turns_left_out"], found["rows_truncated"]
    said = "a.parquet: 11 earlier turns left out of 4 of 9 rows, to fit 64 tokens."
    assert (turns.level, turns.what("en")) == ("ok", said)
    assert turns.what("zh") == "a.parquet：9 行中有 4 行为不超过 64 个词元，略去此前 11 轮。"
    assert "300 tokens" in turns.fix("en")
    assert "300 tokens" in cut.fix("en")
