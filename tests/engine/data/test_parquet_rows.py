"""Data files and their columns, opened."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.contract.messages import InputError
from engine.data.chat.settings import ChatSettings
from engine.data.parquet_rows import RowSource
from tests.engine.data.conftest import REPLIES, TEXTS, bad_file
from tests.engine.data.shapes.conftest import TWO, turns

UNREADABLE = {
    "missing": "source_unreadable",
    "folder": "source_unreadable",
    "empty_file": "parquet_bad",
    "not_parquet": "not_parquet",
    "truncated": "parquet_bad",
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "rows.parquet"
    bad_file(path, kind)
    with pytest.raises(InputError) as refused:
        RowSource(path, "train_file", "prompt", "response").open()
    assert refused.value.message.code == UNREADABLE[kind]
    assert str(path) in refused.value.message.text()


def test_a_missing_column_is_named_with_those_that_exist(write: Any) -> None:
    source = write(question=TEXTS, response=REPLIES)
    with pytest.raises(InputError) as refused:
        source.open()
    assert refused.value.message.code == "column_missing"
    assert refused.value.message.args["columns"] == "question, response"
    assert "--prompt_column" in refused.value.message.fix()


@pytest.mark.parametrize("values", [[1, 2], [b"a", b"b"], [["a"], ["b"]], [None, None], [1.5, None]])
def test_a_column_that_is_no_text_is_refused(write: Any, values: list[Any]) -> None:
    source = write(prompt=["a", "b"], response=values)
    with pytest.raises(InputError) as refused:
        source.open()
    assert refused.value.message.code == "column_not_text"
    assert refused.value.message.args["column"] == "response"


def pairs_of(source: RowSource) -> list[tuple[Any, Any, int]]:
    """The pairs of a file, each with its row."""
    batches = list(source.batches(source.open()))
    return [row for one in batches for row in zip(one.prompts, one.responses, one.numbers, strict=True)]


SAID = turns("甲", "1", "乙", "2")
SHAREGPT = turns("甲", "1", "乙", "2", role="from", text="value", names="human gpt")
MORE = [{**turn, "tool_calls": None, "weight": 1.0, "id": 7} for turn in SAID]
PARTS = [{"role": turn["role"], "content": [{"type": "text", "text": turn["content"]}]} for turn in SAID]


@pytest.mark.parametrize("value", [SAID, MORE, SHAREGPT, PARTS, json.dumps(SAID)])
def test_each_answer_of_a_conversation_is_a_row(write: Any, value: Any) -> None:
    source = write(messages=[value, value])
    assert pairs_of(source) == [(*row, number) for number in (0, 1) for row in TWO]
    (batch,) = source.batches(source.open())
    assert batch.starts == (None, (0, 5, 10)) * 2


def test_a_pair_of_texts_is_read_rather_than_messages(write: Any) -> None:
    source = write(prompt=["a"], response=["b"], messages=[SAID])
    assert pairs_of(source) == [("a", "b", 0)]
    assert pairs_of(write(name="other", prompt=["a"], messages=[SAID]))[0][:2] == TWO[0]


def test_a_column_of_another_name_can_be_read(write: Any) -> None:
    path = write(talk=[SAID], messages=["x"]).path
    assert len(pairs_of(RowSource(path, "train_file", "prompt", "response", "talk"))) == 2


def test_a_conversation_that_cannot_be_used_costs_only_itself(write: Any) -> None:
    tool = [*turns("a"), {"role": "tool", "content": "x"}, *turns("b", names="assistant")]
    source = write(messages=[SAID, turns("a"), tool, None, turns("你好", "你好！")])
    (batch,) = source.batches(source.open())
    assert {batch.numbers[place]: why for place, why in batch.refused.items()} == {
        1: "no_answer", 2: "role_of_tools:tool", 3: "column_not_list:messages"
    }  # fmt: skip
    assert [number for number, text in zip(batch.numbers, batch.responses, strict=True) if text] == [0, 0, 4]


def test_system_texts_and_labels_of_other_columns_count(write: Any) -> None:
    source = write(messages=[SAID, SAID], system=["简短", None], label=[True, False])
    (batch,) = source.batches(source.open())
    assert batch.prompts[0] == "简短\n甲"
    assert list(batch.refused.values()) == ["answer_unwanted:label"]


@pytest.mark.parametrize("values", [[1, 2], [["a"], ["b"]], [{"role": "user"}, {"role": "user"}]])
def test_a_column_of_other_values_holds_no_messages(write: Any, values: list[Any]) -> None:
    with pytest.raises(InputError) as refused:
        write(messages=values).open()
    assert refused.value.message.code == "column_not_messages"
    assert "--messages_column" in refused.value.message.fix()


def test_what_is_left_out_of_conversations_is_counted(write: Any) -> None:
    thinking = [*turns("甲"), {"role": "assistant", "content": "1", "reasoning_content": "想"}, *turns("乙")]
    (batch,) = (source := write(messages=[thinking, SAID])).batches(source.open())
    assert batch.noticed == {"thoughts_left_out": 1, "question_unanswered": 1}


def test_text_that_is_not_utf8_costs_only_its_row(tmp_path: Path) -> None:
    kind = pa.list_(pa.struct([("role", pa.string()), ("content", pa.binary())]))
    said = [[{"role": "user", "content": b"a"}, {"role": "assistant", "content": end}] for end in (b"b", b"\xff", b"c")]
    pq.write_table(pa.table({"messages": pa.array(said, kind)}), tmp_path / "rows.parquet")
    source = RowSource(tmp_path / "rows.parquet", "train_file", "prompt", "response")
    (batch,) = source.batches(source.open())
    assert (list(batch.responses), batch.refused) == (["b", None, "c"], {1: "turn_not_utf8"})


@pytest.mark.parametrize("chat", [None, ChatSettings()])
def test_a_column_of_turns_of_another_name_is_offered(write: Any, chat: ChatSettings | None) -> None:
    path = write(id=[1], conversations=[SHAREGPT], tags=[["a"]]).path
    with pytest.raises(InputError) as refused:
        RowSource(path, "train_file", "prompt", "response", chat=chat).open()
    named = refused.value.message.args
    assert (named["setting"], named["messages_column"]) == ("messages_column", "conversations")
    pairs = RowSource(path, "train_file", "prompt", "response", "conversations", chat)
    assert len(list(pairs.conversations(pairs.open()))) == 1
