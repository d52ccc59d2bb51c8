"""Columns: named by the user, or found."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.contract.inputs import USUAL_COLUMNS
from engine.contract.messages import InputError
from engine.data.shapes.account import RefusedError
from engine.data.shapes.known import shaped, suggested
from tests.engine.data.conftest import LINES, TABLE, Reader, csv_text, places
from tests.engine.data.shapes.conftest import Record, turns


def test_a_missing_named_column_is_an_error_with_those_that_exist(read: Reader, tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "in.parquet")
    sources: list[tuple[Any, str]] = [
        (csv_text("甲,乙"), "rows.csv"), (LINES, "rows.jsonl"), (tmp_path / "in.parquet", ""),
    ]  # fmt: skip
    for content, name in sources:
        with pytest.raises(InputError) as refused:
            read(content, name, prompt_column="prompt", response_column="answer")
        assert refused.value.message.code == "source_column_missing"
        assert "has no column answer; it has: prompt, response" in refused.value.message.what()


def test_named_columns_are_not_replaced_by_others(read: Reader) -> None:
    lines = [{"q": "问", "a": "答"}, {"prompt": "p", "response": "r"}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    found, came = read(text, "rows.jsonl", prompt_column="q", response_column="a")
    assert came == [("问", "答")]
    assert places(found) == {"column_missing:q": ["2"]}


def test_a_duplicate_column_is_an_error_if_needed(read: Reader, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        read("prompt,response,response\n你好,旧,新\n")
    assert refused.value.message.code == "source_column_twice"
    found, came = read("prompt,id,id,response\n你好,1,2,新\n")
    assert came == [("你好", "新")]
    assert places(found, "noticed") == {"column_repeated:id": ["1"]}
    column = pa.array(["x"])
    pq.write_table(pa.table([column] * 3, names=["prompt", "response", "response"]), tmp_path / "twice.parquet")
    with pytest.raises(InputError) as refused:
        read(tmp_path / "twice.parquet")
    assert refused.value.message.code == "source_column_twice"


def test_an_unknown_shape_lists_the_columns(read: Reader, tmp_path: Path) -> None:
    pq.write_table(pa.table({"Frage": ["x"], "Antwort": ["y"], "id": [1]}), tmp_path / "in.parquet")
    for content in ("Frage,Antwort,id\nx,y,1\n", tmp_path / "in.parquet"):
        with pytest.raises(InputError) as refused:
            read(content)
        assert "no known columns among Frage, Antwort, id: 1" in refused.value.message.text()


def test_named_columns_win_over_shapes() -> None:
    record = {"id": 3, "messages": turns("x", "y"), "question": "谁", "answer": "他", "answer_long": "是他"}
    assert shaped(record).unused == ["id", "question", "answer", "answer_long"]
    found = shaped(record, ("", "answer_long"))
    assert [(row.prompt, row.response) for row in found.pairs()] == [("谁", "是他")]
    assert found.unused == ["id", "messages", "answer"]
    with pytest.raises(RefusedError) as refused:
        shaped(record, ("question", "answer_lnog"))
    assert str(refused.value) == "column_missing:answer_lnog"


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["id", "question", "answer"], {"importable": 1, "prompt_column": "question", "response_column": "answer"}),
        (["问", "答"], {"importable": 1, "prompt_column": "问", "response_column": "答"}),
        (["instruction", "input", "output"], {"importable": 1}),
        (["question", "context", "answer"], {"importable": 1}),
        (["question", "A", "B", "answer"], {"importable": 1}),
        (["question", "choices", "answer"], {"importable": 1}),
        (["messages", "id"], {"importable": 1}),
        (["text", "label"], {"importable": 0}),
    ],
)
def test_two_columns_are_suggested_only_if_nothing_else_is_read(names: list[str], found: Record) -> None:
    assert suggested(names) == found


def test_an_import_recognizes_the_columns_that_it_writes() -> None:
    assert suggested(list(USUAL_COLUMNS.values())) == {"importable": 1, **USUAL_COLUMNS}
