"""What of a record was used, left out or refused."""

import pytest

from engine.data.shapes.account import RefusedError
from engine.data.shapes.known import shaped
from tests.engine.data.shapes.conftest import TWO, Pairs, Record, turns

REFUSED = [
    ({}, "record_empty"),
    ({"text": "x", "标题": "y"}, "no_known_columns:text, 标题"),
    ({"prompt": "a", "question": "b", "response": "c"}, "columns_ambiguous:prompt, question"),
    ({"prompt": "a", "response": "b", "answer": "c"}, "columns_ambiguous:response, answer"),
    *(({"prompt": "a", "completion": "b", "label": label}, "answer_unwanted:label")
      for label in (False, "false", " False", "0", 0, 0.0)),
    ({"instruction": "a", "output": "b", "kto_tag": "False"}, "answer_unwanted:kto_tag"),
    ({"messages": turns("a", "b"), "label": False}, "answer_unwanted:label"),
    ({"message_id": "7", "parent_id": None, "role": "prompter", "text": "a"}, "message_tree:parent_id"),
    ({"message_tree_id": "7", "prompt": {"text": "a", "role": "prompter", "replies": []}},
     "message_tree:message_tree_id"),
    ({"chat": {"turn_1": {"Human": "a", "Commands": "Search('b')", "MOSS": "c"}}}, "turn_calls_tools:Commands"),
    ({"chat": "USER: a ASSISTANT: b"}, "column_not_list:chat"),
    ({"question": "a", "choices": ["b", "c"], "answer": 1}, "answer_is_number:answer"),
    ({"question": "a", "A": "2", "B": "3", "C": "4", "answer": "2"}, "answer_is_number:answer"),
    ({"question": "a", "options": "b or c", "answer": "b"}, "options_unclear:options"),
    ({"question": "a", "A": "b", "B": "c", "C": "d"}, "no_known_columns:question, A, B, C"),
    ({"prompt": turns("a"), "completion": "b", "label": False}, "answer_unwanted:label"),
    ({"prompt": "a", "response": "b", "images": ["x.png"]}, "column_beyond_text:images"),
    ({"messages": turns("a", "b"), "tools": '[{"name": "f"}]'}, "tools_in_pairs"),
    *(({"messages": [*turns("a", "b"), {"role": role, "content": "x"}, *turns("c", "d")]}, f"role_of_tools:{role}")
      for role in ("tool", "ipython", "observation")),
    ({"conversations": [{"from": "human", "value": "a"}, {"from": "function_call", "value": "{}"}]},
     "turn_calls_unclear:function_call"),
    ({"messages": [{"role": "narrator", "content": "x"}]}, "unknown_role:narrator"),
    ({"messages": [{"text": "x"}]}, "turn_without_role:text"),
    ({"messages": [*turns("a"), {"role": "assistant", "content": None, "tool_calls": [{"name": "f"}]}]},
     "turn_calls_tools:tool_calls"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]}, "turn_part:image_url"),
    ({"messages": [{"role": "user", "content": {"a": 1}}]}, "turn_not_text:object"),
    ({"messages": "[1, "}, "column_not_list:messages"),
    ({"prompt": "a", "response": ["b", "c"]}, "response_not_text:list of 2"),
    ({"prompt": "a", "response": {"b": "c"}}, "response_not_text:object"),
    ({"prompt": "a", "response": True}, "response_not_text:true"),
    ({"prompt": "a", "response": float("nan")}, "response_null"),
    ({"prompt": " ", "response": "b"}, "prompt_empty"),
    ({"messages": turns("a")}, "no_answer"),
    ({"messages": []}, "no_answer"),
    ({"conversations": turns("a", role="from", text="value", names="gpt user")}, "no_answer"),
    ({"question": "q", "context": "c", "answers": {"text": []}}, "no_answer"),
]  # fmt: skip


@pytest.mark.parametrize(("record", "why"), REFUSED)
def test_unusable_records_are_refused_by_name(record: Record, why: str) -> None:
    with pytest.raises(RefusedError) as refused:
        shaped(record).pairs()
    assert str(refused.value) == why


@pytest.mark.parametrize(
    ("record", "rows", "notices"),
    [
        ({"prompt": 3, "response": 4.5}, [("3", "4.5")], ["number_as_text"]),
        ({"messages": turns("甲", "1", "乙")}, [("甲", "1")], ["question_unanswered"]),
        ({"messages": turns("甲", "1", "乙", "", "丙", "3")}, [("甲", "1")], ["turn_empty", "question_unanswered"]),
        ({"messages": turns("嗨", "甲", "1", names="assistant user")}, [("A: 嗨\nQ: 甲", "1")], ["answer_first"]),
        ({"messages": [*turns("甲"), {"role": "assistant", "content": "1", "weight": 0}, *turns("乙", "2")]},
         [TWO[1]], ["answer_unlearned"]),
        ({"messages": [*turns("甲"), {"role": "assistant", "content": "1", "reasoning_content": "想"}]},
         [("甲", "1")], ["thoughts_left_out"]),
        ({"question": "谁", "context": "他", "answers": {"text": ["他", "她"]}},
         [("谁\n他", "他")], ["answers_further"]),
    ],
)  # fmt: skip
def test_parts_left_out_of_a_record_are_reported(record: Record, rows: Pairs, notices: list[str]) -> None:
    found = shaped(record)
    assert [(row.prompt, row.response) for row in found.pairs()] == rows
    assert sorted(found.notices + found.pair_notices) == sorted(notices)
