"""What the facts on a data file mean for a run."""

from dataclasses import replace
from pathlib import Path

import pytest

from engine.contract.config import override
from engine.contract.facts import ChatFacts, DataFacts, LeftOutFacts, SomeRows
from engine.contract.glances import Form
from engine.contract.presets import preset
from sft_tui.preflight.data import of_both, of_files, show_row, without_repetitions
from sft_tui.preflight.declaration import CheckedRun
from sft_tui.preflight.fix import Command
from tests.sft_tui.some_facts import LENGTHS, file_facts

CONFIG, _ = override(preset("sft-small").config, {"train_file": "a.parquet", "validation_file": "b.parquet"})
CHATS = ChatFacts(conversations=9, answers=9, split=0, too_long=0, open=0, stops={"</s>": 9})


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


@pytest.mark.parametrize(
    ("form", "chat", "how"), [("pairs", None, []), ("messages", None, ["--as", "pairs"]), ("messages", CHATS, [])]
)
def test_repeated_answers_of_conversations_are_removed_as_pairs(
    form: Form, chat: ChatFacts | None, how: list[str]
) -> None:
    file = replace(file_facts(repeated=SomeRows(2, 5), chat=chat), form=form)
    (found,) = (one for one in of_files(CONFIG, DataFacts(train_file=file)) if one.code == "rows_duplicate")
    run = CheckedRun(CONFIG, lambda **_: Command(("check",)), [found])
    imported, _ = without_repetitions(found, run)
    assert list(imported.argv[-len(how) :] if how else []) == how
    assert ("--as" in imported.argv) == bool(how)


def test_parts_of_a_row_are_called_by_what_the_model_makes_of_them() -> None:
    said = {
        chat is None: next(one.what("en") for one in of_files(CONFIG, DataFacts(train_file=file_facts(chat=chat)))
                           if one.code == "rows")
        for chat in (None, CHATS)
    }  # fmt: skip
    assert "prompts of 9 tokens, responses of 9" in said[True]
    assert "contexts of 9 tokens, answers of 9" in said[False]


def test_a_row_of_a_chat_model_is_shown_with_its_model(tmp_path: Path) -> None:
    chosen = {"pretrained_model": str(tmp_path), "tokenizer": "", "learn": "last", "train_file": "a.parquet"}
    config, _ = override(preset("chat").config, chosen)
    facts = replace(file_facts(chat=CHATS), dropped={"no_answer": 1}, first_dropped=3)
    (found,) = (one for one in of_files(config, DataFacts(train_file=facts)) if one.code == "rows_dropped")
    (look,) = show_row(found, CheckedRun(config, lambda **_: Command(()), [found]))
    words = list(look.argv)
    assert words[:5] == ["sft-tui", "data", "show", "a.parquet", "--row"]
    named = dict(zip(words[4::2], words[5::2], strict=True))
    assert named == {
        "--row": "3", "--max_seq_len": "1024", "--pretrained_model": str(tmp_path), "--learn": "last"
    }  # fmt: skip


def test_rows_that_are_left_out_are_counted_and_stale_ones_are_a_warning() -> None:
    left_out = LeftOutFacts(3, SomeRows(2, 7))
    facts = DataFacts(train_file=replace(file_facts(), left_out=left_out))
    found = {finding.code: finding for finding in of_files(CONFIG, facts)}
    counted, stale = found["rows_left_out"], found["rows_left_out_stale"]
    said = "Left out of training: 3 rows of a.parquet (a.parquet.leave-out.json)."
    assert (counted.level, counted.what("en")) == ("ok", said)
    assert stale.level == "warning"
    assert "row 7 of a.parquet" in stale.what("en")
    assert "sft-tui data leave-out a.parquet" in stale.fix("en")
