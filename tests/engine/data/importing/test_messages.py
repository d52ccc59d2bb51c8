"""Conversations as a column of messages: written, and read back the same."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract.import_report import ImportReport
from engine.contract.requests import ImportRequest
from engine.data.importing.convert import import_files
from engine.data.importing.messages import record_of
from engine.data.parquet_rows import RowSource
from engine.data.shapes.conversation import Conversation, Turn
from engine.data.shapes.known import shaped
from tests.engine.data.conftest import lines
from tests.engine.data.shapes.conftest import turns

CALL = '[{"type": "function", "function": {"name": "天气", "arguments": {"城市": "北京"}}}]'
TOOL = {"type": "function", "function": {"name": "天气"}}
TOOLS = json.dumps([TOOL], ensure_ascii=False)
Imported = Callable[..., tuple[ImportReport, list[dict[str, Any]]]]


@pytest.fixture
def imported(tmp_path: Path) -> Imported:
    """Imports content under a file name; the report, and the rows written."""

    def import_one(content: str, name: str = "rows.jsonl", **how: Any) -> tuple[ImportReport, list[dict[str, Any]]]:
        path, train = tmp_path / name, tmp_path / "train.parquet"
        path.write_text(content, encoding="utf-8")
        how = {"valid_ratio": 0.0, "overwrite": True, **how}
        found = import_files(ImportRequest((str(path),), train=str(train), **how), lambda *_: None)
        return found, pq.read_table(train).to_pylist()

    return import_one


def conversations(path: Path) -> list[Any]:
    """What a run reads of a file."""
    source = RowSource(path, "train_file", "prompt", "response")
    return [one for batch in source.conversations(source.open()) for one in batch]


def test_a_conversation_is_one_row_with_the_plainest_columns(imported: Imported) -> None:
    said = turns("你好", "你好！", "再见", "再见！", role="from", text="value", names="human gpt")
    found, rows = imported(lines({"conversations": said, "id": 7}))
    assert rows == [{"messages": turns("你好", "你好！", "再见", "再见！")}]
    assert (found.form, found.made, found.answers, found.conversations) == ("messages", 1, 2, 1)
    assert found.preview == (("user: 你好", "assistant: 你好！", "user: 再见", "assistant: 再见！"),)


@pytest.mark.parametrize(
    ("record", "form"),
    [
        ({"prompt": "a", "response": "b"}, "pairs"),
        ({"instruction": "a", "input": "", "output": "b", "history": []}, "pairs"),
        ({"instruction": "a", "output": "b", "system": "s"}, "messages"),
        ({"instruction": "a", "output": "b", "history": [["c", "d"]]}, "messages"),
        ({"prompt": "a", "response": "b", "tools": json.dumps([TOOL])}, "messages"),
        ({"messages": turns("a", "b")}, "messages"),
        ({"chat": {"turn_1": {"Human": "a", "MOSS": "b"}}}, "messages"),
        ({"data": ["a", "b"]}, "messages"),
        ({"prompt": turns("a"), "completion": turns("b", names="assistant")}, "messages"),
        ({"context": "c", "question": "q", "answers": {"text": ["a"]}}, "pairs"),
    ],
)
def test_only_what_is_more_than_a_pair_is_a_conversation(imported: Imported, record: Any, form: str) -> None:
    assert imported(lines(record))[0].form == form


@pytest.mark.parametrize("order", [1, -1])
def test_one_conversation_makes_messages_of_all_rows(imported: Imported, order: int) -> None:
    records = [{"prompt": "问", "response": "答"}, {"messages": turns("甲", "1", "乙", "2")}][::order]
    found, rows = imported(lines(*records))
    assert found.form == "messages"
    assert sorted(len(row["messages"]) for row in rows) == [2, 4]
    assert imported(lines(*records), form="pairs")[1][0].keys() == {"prompt", "response", "prompt_turns"}
    assert imported(lines(records[0 if order > 0 else 1]), form="messages")[1] == [{"messages": turns("问", "答")}]


def test_thoughts_tools_weights_and_system_texts_are_kept(imported: Imported) -> None:
    record = {
        "system": "简短",
        "tools": [TOOL],
        "messages": [
            *turns("天气？"),
            {"role": "assistant", "content": None, "reasoning_content": "查", "tool_calls": json.loads(CALL)},
            {"role": "tool", "content": "晴", "name": "天气", "tool_call_id": "c1"},
            {"role": "assistant", "content": "晴", "weight": 0},
            *turns("谢谢", "不客气"),
        ],
    }
    found, rows = imported(lines(record, {"messages": turns("a", "b")}))
    asked, called, tool, said, *_ = rows[0]["messages"][1:]
    assert rows[0]["messages"][0] == {**dict.fromkeys(asked), "role": "system", "content": "简短"}
    assert (called["content"], called["reasoning_content"], json.loads(called["tool_calls"])) == (
        "", "查", json.loads(CALL)
    )  # fmt: skip
    assert (tool["role"], tool["name"], tool["tool_call_id"], said["weight"]) == ("tool", "天气", "c1", 0)
    assert json.loads(rows[0]["tools"]) == [TOOL]
    assert rows[1]["tools"] is None
    assert (found.answers, found.noticed["answer_unlearned"].count) == (3, 1)


def test_a_call_in_a_turn_of_its_own_is_the_answers(imported: Imported) -> None:
    said = [("human", "天气？"), ("function_call", '{"name": "天气", "arguments": {"城市": "北京"}}'),
            ("observation", "晴"), ("gpt", "晴天")]  # fmt: skip
    _, rows = imported(lines({"conversations": [{"from": role, "value": text} for role, text in said]}))
    assert [message["role"] for message in rows[0]["messages"]] == ["user", "assistant", "tool", "assistant"]
    assert json.loads(rows[0]["messages"][1]["tool_calls"]) == json.loads(CALL)


def test_equal_conversations_are_written_once_and_counted(imported: Imported) -> None:
    talk = {"messages": turns("甲", "1", "乙", "2")}
    found, rows = imported(lines(talk, talk, {**talk, "system": "s"}, {"prompt": "a", "response": "b"},
                                 {"messages": turns("a", "b")}))  # fmt: skip
    assert (found.records, found.made, found.repeated, len(rows)) == (5, 5, 2, 3)


def test_conversations_with_one_beginning_stay_in_one_file(imported: Imported, tmp_path: Path) -> None:
    records = [{"system": "s", "messages": turns(f"问{i // 2}", "答", f"问{i}", "答")} for i in range(60)]
    valid = tmp_path / "valid.parquet"
    found, rows = imported(lines(*records), valid=str(valid), valid_ratio=0.2)
    held = pq.read_table(valid).to_pylist()
    assert (len(rows), len(held)) == (48, 12) == (found.train_rows, found.valid_rows)
    first = [{row["messages"][1]["content"] for row in part} for part in (rows, held)]
    assert not first[0] & first[1]


def test_an_older_import_becomes_messages_again(imported: Imported, tmp_path: Path) -> None:
    talk = {"system": "简短", "messages": turns("甲", "1", "乙", "2")}
    imported(lines(talk), form="pairs")
    (tmp_path / "old.parquet").write_bytes((tmp_path / "train.parquet").read_bytes())
    last = Conversation("简短", [Turn("user", "甲", learned=False), Turn("assistant", "1", learned=False),
                                 Turn("user", "乙", learned=False), Turn("assistant", "2")])  # fmt: skip
    assert last in conversations(tmp_path / "old.parquet")
    request = ImportRequest((str(tmp_path / "old.parquet"),), str(tmp_path / "train.parquet"), form="messages",
                            valid_ratio=0.0, overwrite=True)  # fmt: skip
    import_files(request, lambda *_: None)
    weights = [[one.get("weight") for one in row["messages"]] for row in pq.read_table(request.train).to_pylist()]
    assert [None, None, 0, None, None] in weights


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
ANSWER = st.builds(
    Turn,
    st.just("assistant"),
    TEXT,
    st.sampled_from([True, True, True, False]),
    st.one_of(st.just(""), TEXT),
    st.sampled_from(["", "", CALL]),
    *[st.just("")] * 3,
)


@st.composite
def talks(draw: st.DrawFn) -> Conversation:
    """Conversations as an import makes them: two take turns, tools may return something."""
    said: list[Turn] = []
    for _ in range(draw(st.integers(1, 4))):
        said.append(Turn("user", draw(TEXT)))
        answer = draw(ANSWER)
        while answer.calls:
            said += [answer, Turn("tool", draw(TEXT), name="天气", call_id="c1")]
            answer = draw(ANSWER)
        said.append(answer)
    return Conversation(
        draw(st.one_of(st.just(""), TEXT)),
        said,
        tools=draw(st.sampled_from(["", TOOLS])),
    )


@settings(max_examples=60, deadline=None)
@given(talk=talks())
def test_a_conversation_is_read_back_as_it_was_imported(
    tmp_path_factory: pytest.TempPathFactory, talk: Conversation
) -> None:
    if not talk.answers:
        return
    folder = tmp_path_factory.mktemp("talks")
    source, target = folder / "rows.jsonl", folder / "train.parquet"
    source.write_text(lines(record_of(talk)), encoding="utf-8")
    import_files(ImportRequest((str(source),), str(target), valid_ratio=0.0), lambda *_: None)
    (found,) = conversations(target)
    (direct,) = shaped(record_of(talk)).conversations
    assert [turn._replace(beyond="") for turn in found.turns] == talk.turns
    assert (found.system, found.tools) == (talk.system, talk.tools)
    assert found == direct
