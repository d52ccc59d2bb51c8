"""Findings as a terminal prints them."""

from typing import get_args

import pytest

from engine.contract.facts import Batch, DataFacts
from engine.contract.texts import Lang
from sft_tui.preflight.check import Report
from sft_tui.preflight.finding import Finding
from sft_tui.preflight.fix import Import, Resume, Set, Start
from sft_tui.preflight.report import MOST_OTHERS, lines, to_json
from sft_tui.text import width
from tests.sft_tui.some_facts import file_facts, step_facts


@pytest.mark.parametrize(("lang", "word"), [("en", "or: "), ("zh", "或：")])
def test_every_way_out_is_printed(lang: Lang, word: str) -> None:
    ways = ((Start("mine", fresh=True),), (Set("mine", {}, {"output_dir": "b"}),))
    args = {"run": "mine-1", "path": "out", "step": 3, "steps_total": 9, "resume_option": "sft-tui resume mine-1"}
    finding = Finding("error", "unfinished_run", "output_dir", {**args, "fresh_option": "x"}, (Resume("mine-1"),), ways)
    shown = [line.strip() for line in lines([finding], lang)]
    assert f"{word}`sft-tui run mine --fresh`" in shown
    assert sum("sft-tui resume mine-1" in line for line in shown) == 1  # which its text names already
    assert any("sft-tui check mine --output_dir b" in line for line in shown)


def test_of_many_ways_the_first_are_printed_and_the_rest_is_counted() -> None:
    others = tuple((Import([f"{n}.jsonl"]),) for n in range(MOST_OTHERS + 2))
    finding = Finding("error", "rows_none", "train_file", {"path": "a.parquet"}, (Import(["x.jsonl"]),), others)
    shown = [line.strip() for line in lines([finding], "en")]
    assert sum(line.startswith("or: ") for line in shown) == MOST_OTHERS
    assert shown[-1] == "2 more ways: --json lists all."


@pytest.mark.parametrize("lang", get_args(Lang))
@pytest.mark.parametrize("columns", [50, 80, 120])
def test_texts_stay_in_their_column_and_commands_in_one_piece(lang: Lang, columns: int) -> None:
    missing = Finding("error", "rows_none", "train_file", {"path": "a.parquet"}, (Import(["x.jsonl"]),), ())
    precise = Finding("ok", "precision", "precision", {"precision": "bf16", "reason": "word " * 40})
    shown = list(lines([missing, precise], lang, columns))
    margin = min(len(line) - len(line.lstrip()) for line in shown if line.startswith(" "))
    assert all(line[0] in "✗!✓" or line.startswith(" " * margin) for line in shown)
    assert all(width(line) <= columns or "`" in line for line in shown)
    assert sum("word word" in line for line in shown) > 1
    assert list(lines([missing], lang, 20)) == list(lines([missing], lang))  # too narrow to wrap


def test_the_report_as_json_has_the_keys_that_programs_read() -> None:
    steps = step_facts(per_epoch=3, total=9, largest=(Batch(2, 3, 4),), packed=(Batch(2, 2, 3),))
    body = to_json(Report([], DataFacts(train_file=file_facts(), steps=steps)), "en")
    known = ["findings", "errors", "warnings", "memory", "gpu_memory", "lengths", "rehearsed", "steps", "learning"]
    assert list(body) == known
    assert (body["steps"]["total"], body["steps"]["largest"], body["steps"]["packed"]) == (9, [[2, 3, 4]], [[2, 2, 3]])
    assert body["lengths"]["train_file"]["prompt"]["histogram"]["counts"] == [5, 4]
    assert to_json(Report([]), "en")["steps"] is None
