"""What the facts on a data file mean for a run."""

from typing import Any

from engine.contract.presets import preset
from sft_tui.preflight.data import _token_findings


def test_turns_that_prompts_lost_are_said_with_the_length_that_keeps_all_of_them() -> None:
    none = {"rows": 0, "first": -1}
    facts: dict[str, Any] = {
        "rows": 9, "limit": 64, "turns_rows": 4, "turns_left_out": 11, "turns_longest": 300, "cut_rows": 1,
        "cut_tokens": 5, "cut_label_tokens": 0, "label_tokens": 90, "tokens": 900, "unknown_tokens": 0,
        "prompt": {"longest": 64}, "label": {"longest": 69}, "labels_empty": none, "repeated": none,
    }  # fmt: skip
    turns, cut = _token_findings(preset("sft-small").config, "train_file", "a.parquet", facts)
    assert (turns.level, turns.what("en")) == (
        "ok", "a.parquet: 11 earlier turns left out of 4 of 9 rows, to fit 64 tokens."
    )  # fmt: skip
    assert turns.what("zh") == "a.parquet：9 行中有 4 行为不超过 64 个词元，略去此前 11 轮。"
    assert "300 tokens" in turns.fix("en")
    assert "300 tokens" in cut.fix("en")
