"""What the facts on a data file mean for a run."""

from engine.contract.config import override
from engine.contract.facts import DataFacts, SomeRows
from engine.contract.presets import preset
from sft_tui.preflight.data import of_both, of_files
from tests.sft_tui.some_facts import LENGTHS, file_facts

CONFIG, _ = override(preset("sft-small").config, {"train_file": "a.parquet", "validation_file": "b.parquet"})


def test_turns_that_prompts_lost_name_the_length_that_keeps_all() -> None:
    tokens = {"turns_rows": 4, "turns_left_out": 11, "turns_longest": 300, "cut_rows": 1, "cut_tokens": 5}
    facts = DataFacts(train_file=file_facts(**tokens, prompt=LENGTHS))
    found = {finding.code: finding for finding in of_files(CONFIG, facts)}
    turns, cut = found["turns_left_out"], found["rows_truncated"]
    said = "a.parquet: 11 earlier turns left out of 4 of 9 rows, to fit 64 tokens."
    assert (turns.level, turns.what("en")) == ("ok", said)
    assert turns.what("zh") == "a.parquet：9 行中有 4 行为不超过 64 个词元，略去此前 11 轮。"
    assert "300 tokens" in turns.fix("en")
    assert "300 tokens" in cut.fix("en")


def test_rows_of_the_validation_file_that_were_trained_on_are_named() -> None:
    facts = DataFacts(train_file=file_facts(), validation_file=file_facts(), overlap=SomeRows(3, 7))
    found = {finding.code: finding for finding in of_both(CONFIG, facts, 1)}
    assert found["rows_overlap"].subject == "validation_file"
    assert "3 of 9 validation rows" in found["rows_overlap"].what("en")
    assert "row 7 of b.parquet" in found["rows_overlap"].what("en")
