"""What an import shows of rows, as lines."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract.import_report import FileReport, ImportReport
from engine.contract.texts import Lang
from sft_tui.screen import import_view
from sft_tui.screen.ink import columns
from tests.sft_tui.screen.conftest import plain

PAIRS = ImportReport(
    records=30, used=29, made=29, kept=29, shapes={"question/answer": 29}, preview=(("Was ist\x1b[31m 1?", "Das."),),
    files=(FileReport("faq.csv", "csv", "utf-8", records=30, used=29, made=29, refused=1),),
)  # fmt: skip
TALKS = replace(PAIRS, form="messages", preview=(("user: 你好", "assistant: " + "很长。" * 200),))


@pytest.mark.parametrize("report", [PAIRS, TALKS])
@settings(max_examples=25, deadline=None)
@given(width=st.integers(20, 200))
def test_no_line_is_wider_than_there_is_room(report: ImportReport, width: int) -> None:
    for line in import_view.preview_lines(report, width, "zh"):
        assert columns(line) <= width
        assert "\x1b" not in "".join(text for text, _ in line)


def test_pairs_are_named_and_the_account_follows() -> None:
    text = plain(import_view.preview_lines(PAIRS, 80, "en"))
    assert "prompt Was ist␛[31m 1?" in text
    assert "response Das." in text
    assert "30 records read = 29 used" in text
    assert "--preview" not in text


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_counts_say_how_rows_are_split(lang: Lang) -> None:
    split = {"train": 25, "valid": 3, "test": 1}
    for report in (PAIRS, TALKS):
        words = import_view.count_words(report, split, lang)
        assert all(number in words for number in ("29", "25", "3", "1"))


def test_what_was_written_is_named_without_the_next_command() -> None:
    written = replace(PAIRS, train="t.parquet", valid="v.parquet", train_rows=26, valid_rows=3)
    text = plain(import_view.written_lines(written, 80, "en"))
    assert "26 rows written to t.parquet" in text
    assert "sft-tui check" not in text
