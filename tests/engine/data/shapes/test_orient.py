"""A whole table in one object is recognized by its orientation."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.contract.messages import InputError
from tests.engine.data.conftest import FIRST, SECOND, Reader, places

FRAME = {"prompt": ["一", "二"], "response": ["1", "2"]}


TABLES = [
    ("columns", {name: dict(enumerate(cells)) for name, cells in FRAME.items()}),
    ("columns", {name: dict(zip("xy", cells, strict=True)) for name, cells in FRAME.items()}),
    ("columns", {"messages": {"0": [{"role": "user", "content": "一"}, {"role": "assistant", "content": "1"}]}}),
    ("index", {"0": json.loads(FIRST), "1": json.loads(SECOND)}),
    ("index", {"7": json.loads(FIRST)}),
    ("index", {"q-17": {"messages": []}, "q-18": {"messages": []}}),
    ("split", {"columns": list(FRAME), "index": [0, 1], "data": [["一", "1"], ["二", "2"]]}),
    ("split", {"columns": list(FRAME), "data": [["一", "1"]]}),
    ("list", FRAME),
    ("list", {"id": [1, 2], **FRAME}),
    ("list", {"messages": [[{"role": "user", "content": "一"}], [{"role": "user", "content": "二"}]]}),
    ("list", {"question": ["谁", "何"], "context": ["他", "它"], "answers": [{"text": ["他"]}, {"text": ["它"]}]}),
]


@pytest.mark.parametrize(("orient", "table"), TABLES)
@pytest.mark.parametrize("indent", [None, 1])
def test_a_whole_table_in_one_object_is_refused_with_a_fix(
    read: Reader, orient: str, table: Any, indent: int | None
) -> None:
    text = json.dumps(table, indent=indent, ensure_ascii=False)
    with pytest.raises(InputError) as refused:
        read(text, "rows.json")
    assert f"orient {orient}" in refused.value.message.text()
    assert 'df.to_json(path, orient="records", lines=True, force_ascii=False)' in refused.value.message.text("zh")
    found, came = read(text + "\n" + FIRST, "rows.json")
    assert (came, places(found)) == ([("一", "1")], {f"table_not_record:{orient}": ["1"]})


TURNS = [{"role": "user", "content": "一"}, {"role": "assistant", "content": "1"}]


@pytest.mark.parametrize(
    "record",
    [
        {"messages": TURNS, "tags": ["x", "y"]},
        {"messages": TURNS, "previous": TURNS},
        {"conversations": TURNS, "id": ["x", "y"]},
        {"messages": {"role": ["user", "assistant"], "content": ["一", "1"]}},
        {"prompt": ["一"], "response": ["1"]},
        {"data": ["一", "1"], "id": ["x", "y"]},
    ],
)
def test_a_record_made_of_lists_is_not_a_table(read: Reader, record: Any) -> None:
    assert read(json.dumps(record), "rows.jsonl")[1] == [("一", "1")]


def test_a_record_within_another_is_not_a_table(read: Reader, tmp_path: Path) -> None:
    pq.write_table(pa.table({"row": pa.array([json.loads(FIRST)] * 2)}), tmp_path / "in.parquet")
    for content, name in ((tmp_path / "in.parquet", ""), (f'{{"row": {FIRST}}}\n' * 2, "rows.jsonl")):
        with pytest.raises(InputError) as refused:
            read(content, name)
        assert "no known columns among row" in refused.value.message.text()
