"""Every shape of record becomes conversations: nothing of it is dropped unless that is said."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.data.importing.convert import ImportRequest, import_files
from engine.data.shapes.account import RefusedError
from engine.data.shapes.known import SHAPES, shaped, suggested

Pairs = list[tuple[str, str]]
Record = dict[str, Any]
ONE = [("你好", "你好！")]
TWO = [("甲", "1"), ("Q: 甲\nA: 1\nQ: 乙", "2")]


def turns(*texts: str, role: str = "role", text: str = "content", names: str = "user assistant") -> list[Record]:
    """Messages of two that take turns."""
    sides = names.split()
    return [{role: sides[place % 2], text: said} for place, said in enumerate(texts)]


# Shape, a record of it, the rows; each is also tried as JSON, Parquet and, where its cells are plain, CSV.
RECORDS: list[tuple[str, Record, Pairs]] = [
    ("prompt/response", {"prompt": "你好", "response": "你好！"}, ONE),
    ("Prompt/Response", {"Prompt": "你好", "Response": "你好！"}, ONE),
    (" Question /ANSWER", {" Question ": "你好", "ANSWER": "你好！"}, ONE),
    ("提问/回复", {"提问": "你好", "回复": "你好！"}, ONE),
    ("问/答", {"问": "你好", "答": "你好！"}, ONE),
    ("输入/输出", {"输入": "你好", "输出": "你好！"}, ONE),
    ("input/target", {"kind": "x", "input": "你好", "target": "你好！"}, ONE),
    ("question/answer", {"question": "你好", "user": "17", "answer": "你好！"}, ONE),
    ("user/assistant", {"user": "你好", "assistant": "你好！"}, ONE),
    ("Context/Response", {"Context": "你好", "Response": "你好！"}, ONE),
    ("prompt/chosen", {"prompt": "你好", "chosen": "你好！", "rejected": "哼"}, ONE),
    ("prompt/response", {"system": "简短", "prompt": "你好", "response": "你好！"}, [("简短\n你好", "你好！")]),
    ("question/answer", {"question": "谁？", "context": "他来了", "answer": "他"}, [("谁？\n他来了", "他")]),
    ("alpaca", {"instruction": "你好", "input": "", "output": "你好！"}, ONE),
    ("alpaca", {"指令": "翻译", "输入": "hello", "输出": "你好"}, [("翻译\nhello", "你好")]),
    ("input/output", {"instruction": "", "input": "你好", "output": "你好！", "history": []}, ONE),
    ("dolly", {"instruction": "谁？", "context": "他来了", "response": "他"}, [("谁？\n他来了", "他")]),
    ("alpaca", {"instruction": "乙", "input": "", "output": "2", "history": [["甲", "1"]]}, TWO),
    ("alpaca", {"instruction": "乙", "output": "2", "history": '[["甲", "1"]]'}, TWO),
    ("alpaca", {"instruction": "译", "input": ["一", "二"], "output": "1 2"}, [("译\n一\n二", "1 2")]),
    ("prompt/response", {"prompt": "乙", "response": "2", "history": [["甲", "1"]]}, TWO),
    ("messages", {"messages": turns("甲", "1", "乙", "2")}, TWO),
    ("messages", {"messages": json.dumps(turns("甲", "1", "乙", "2"))}, TWO),
    ("messages", {"messages": turns("你好", "你好！"), "system": "简短"}, [("简短\n你好", "你好！")]),
    ("messages", {"messages": turns("甲", "1", names="developer assistant")}, [("甲", "1")]),
    ("messages", {"messages": turns("你好", "你好！", names="用户 助手")}, ONE),
    ("sharegpt", {"conversations": turns("甲", "1", "乙", "2", role="from", text="value", names="human gpt")}, TWO),
    ("sharegpt", {"conversations": turns("你好", "你好！", role="from", text="value", names="prompter bing")}, ONE),
    ("conversation", {"conversation": [{"human": "甲", "assistant": "1"}, {"human": "乙", "assistant": "2"}]}, TWO),
    ("conversation", {"conversation": [{"system": "简短", "input": "你好", "output": "你好！"}]},
     [("简短\n你好", "你好！")]),
    ("conversation", {"dialog": ["甲", "1", "乙", "2"]}, TWO),
    ("ultrachat", {"id": "7", "data": ["甲", "1", "乙", "2"]}, TWO),
    ("moss", {"chat": {"turn_2": {"Human": "<|Human|>: 乙<eoh>\n", "MOSS": "<|MOSS|>: 2<eom>\n"},
                       "turn_1": {"Human": "<|Human|>: 甲<eoh>\n", "MOSS": "<|MOSS|>: 1<eom>\n"}}}, TWO),
    ("moss", {"meta_instruction": "简短", "num_turns": 1, "chat": {"turn_1": {
        "Human": "你好", "Inner Thoughts": "<|Inner Thoughts|>: None<eot>", "Commands": "<|Commands|>: None<eoc>",
        "Tool Responses": "<|Results|>: None<eor>", "MOSS": "你好！"}}}, [("简短\n你好", "你好！")]),
    ("moss", {"chat": turns("甲", "1", "乙", "2")}, TWO),
    ("question/answer", {"id": "7", "question": "首都？", "A": "上海", "B": "北京", "C": "", "answer": "B"},
     [("首都？\nA. 上海\nB. 北京", "B")]),
    ("Question/Answer", {"Question": "首都？", "A": "上海", "B": "北京", "Answer": "B"},
     [("首都？\nA. 上海\nB. 北京", "B")]),
    ("问题/答案", {"问题": "首都？", "选项A": "上海", "选项B": "北京", "选项C": "天津", "答案": "B"},
     [("首都？\nA. 上海\nB. 北京\nC. 天津", "B")]),
    ("question/answer", {"question": "首都？", "choices": ["上海", "北京"], "answer": "北京"},
     [("首都？\nA. 上海\nB. 北京", "北京")]),
    ("question/answer", {"question": "首都？", "choices": '["上海", "北京"]', "answer": "B"},
     [("首都？\nA. 上海\nB. 北京", "B")]),
    ("question/answerKey", {"question": "首都？", "choices": {"text": ["上海", "北京"], "label": ["A", "B"]},
                            "answerKey": "B"}, [("首都？\nA. 上海\nB. 北京", "B")]),
    ("question/answer", {"question": "多少？", "options": {"A": "30", "B": "50"}, "answer": "50"},
     [("多少？\nA. 30\nB. 50", "50")]),
    ("q/a", {"q": "你好", "a": "你好！", "b": "再见"}, ONE),
    ("contents", {"contents": [{"role": "user", "parts": [{"text": "你好"}]},
                               {"role": "model", "parts": [{"text": "你好！"}]}]}, ONE),
    ("squad", {"context": "长江长6300公里", "question": "多长？",
               "answers": {"text": ["6300公里"], "answer_start": [3]}},
     [("多长？\n长江长6300公里", "6300公里")]),
    ("squad", {"title": "长江", "paragraphs": [{"context": "长6300公里", "qas": [
        {"question": "多长？", "id": "1", "answers": [{"text": "6300公里", "answer_start": 1}]}]}]},
     [("多长？\n长6300公里", "6300公里")]),
    ("prompt/completion", {"prompt": turns("你好"), "completion": [{"role": "assistant", "content": "你好！"}]}, ONE),
    ("prompt/chosen", {"prompt": "你好", "chosen": turns("你好", "你好！")}, ONE),
]  # fmt: skip


# Shapes whose lists come as JSON in the cells of a table.
IN_CELLS = {"messages", "sharegpt", "conversation", "ultrachat", "contents"}


def forms(shape: str, record: Record) -> list[str]:
    """The formats that can hold a record."""
    tabular = shape in IN_CELLS or all(isinstance(value, str) for value in record.values())
    return ["jsonl", "jsonarray", "parquet", *(["csv"] if tabular else [])]


def written(record: Record, form: str, folder: Path) -> Path:
    """A file with the record in it."""
    path = folder / f"rows.{form.removesuffix('array')}"
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist([record]), path)
    elif form == "csv":
        text = io.StringIO()
        table = csv.DictWriter(text, list(record))
        table.writeheader()
        table.writerow(record)
        path.write_text(text.getvalue(), encoding="utf-8")
    else:
        value = json.dumps(record if form == "jsonl" else [record], ensure_ascii=False)
        path.write_text(f"{value}\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("shape", "record", "rows", "form"),
    [(shape, record, rows, form) for shape, record, rows in RECORDS for form in forms(shape, record)],
)
def test_each_shape_in_each_form(tmp_path: Path, shape: str, record: Record, rows: Pairs, form: str) -> None:
    if form == "csv":
        record = {name: value if isinstance(value, str) else json.dumps(value) for name, value in record.items()}
    found = import_files(ImportRequest([str(written(record, form, tmp_path))]), lambda *_: None)
    assert [tuple(row) for row in found["preview"]] == rows
    assert (found["records"], found["used"], found["made"]) == (1, 1, len(rows))
    (name,) = found["shapes"]
    assert name.replace(" ", "") == shape.replace(" ", "")


def test_every_shape_is_tried() -> None:
    assert {shape.name for shape in SHAPES} <= {name for name, _, _ in RECORDS}


REFUSED = [
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
    ({"messages": turns("a", "b"), "tools": '[{"name": "f"}]'}, "column_beyond_text:tools"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "role_of_tools:tool"),
    ({"messages": [*turns("a"), {"role": "ipython", "content": "x"}]}, "role_of_tools:ipython"),
    ({"conversations": [{"from": "observation", "value": "x"}]}, "role_of_tools:observation"),
    ({"messages": [{"role": "narrator", "content": "x"}]}, "unknown_role:narrator"),
    ({"messages": [{"text": "x"}]}, "turn_without_role:text"),
    ({"messages": [*turns("a"), {"role": "assistant", "content": None, "tool_calls": [{}]}]},
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
        shaped(record)
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
    assert [(row.prompt, row.response) for row in found.rows] == rows
    assert sorted(found.notices) == sorted(notices)


@pytest.mark.parametrize(
    ("said", "rows"),
    [
        ([("system", "简短"), ("user", "甲"), ("user", "乙"), ("assistant", "1")], [("简短\n甲\n乙", "1")]),
        ([("user", "甲"), ("assistant", "1"), ("assistant", "2")], [("甲", "1\n2")]),
        ([("system", "写诗"), ("assistant", "床前明月光")], [("写诗", "床前明月光")]),
        ([("system", "一"), ("system", "二"), ("user", "甲"), ("assistant", "1")], [("一\n二\n甲", "1")]),
        ([("user", "甲"), ("assistant", "1"), ("system", "改"), ("user", "乙"), ("assistant", "2")],
         [("甲", "1"), ("Q: 甲\nA: 1\nQ: 改\n乙", "2")]),
    ],
)  # fmt: skip
def test_consecutive_turns_are_joined_and_system_text_is_first(said: Pairs, rows: Pairs) -> None:
    found = shaped({"messages": [{"role": role, "content": text} for role, text in said]})
    assert [(row.prompt, row.response) for row in found.rows] == rows


def test_without_history_a_prompt_is_system_text_and_question() -> None:
    record = {"system": "简短", "messages": turns("甲", "1", "乙", "2")}
    found = shaped(record, history=0)
    assert [(row.prompt, row.response) for row in found.rows] == [("简短\n甲", "1"), ("简短\n乙", "2")]
    assert [row.earlier for row in found.rows] == [0, 2]


@pytest.mark.parametrize(
    ("history", "last"),
    [(1, "简短\nA: 2\nQ: 丙"), (2, "简短\nQ: 乙\nA: 2\nQ: 丙"), (9, "简短\nQ: 甲\nA: 1\nQ: 乙\nA: 2\nQ: 丙")],
)
def test_a_prompt_has_at_most_the_turns_asked_for(history: int, last: str) -> None:
    record = {"system": "简短", "messages": turns("甲", "1", "乙", "2", "丙", "3")}
    found = shaped(record, history=history)
    assert (len(found.rows), found.rows[0].prompt, found.rows[-1].prompt) == (3, "简短\n甲", last)
    assert len({row.opening for row in found.rows}) == 1


def test_named_columns_win_over_shapes() -> None:
    record = {"id": 3, "messages": turns("x", "y"), "question": "谁", "answer": "他", "answer_long": "是他"}
    assert shaped(record).unused == ["id", "question", "answer", "answer_long"]
    found = shaped(record, ("", "answer_long"))
    assert [(row.prompt, row.response) for row in found.rows] == [("谁", "是他")]
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


@pytest.mark.parametrize("label", [True, 1, None, "news", "true", "1"])
def test_a_preferred_answer_is_learned_unless_labelled_false(label: object) -> None:
    found = shaped({"prompt": "你好", "completion": "你好！", "label": label})
    assert [(row.prompt, row.response) for row in found.rows] == ONE


@pytest.mark.parametrize("label", [False, 0, "0", "false"])
def test_a_class_label_refuses_no_answer(label: object) -> None:
    found = shaped({"instruction": "你好", "output": "你好！", "label": label})
    assert [(row.prompt, row.response) for row in found.rows] == ONE
    assert found.unused == ["label"]


@pytest.mark.parametrize("asked", [("", ""), ("prompt", "response"), ("", "response")])
@pytest.mark.parametrize("history", [None, 0, 3])
def test_other_columns_do_not_change_a_pair(asked: tuple[str, str], history: int | None) -> None:
    texts = [
        "好",
        " 好\n",
        "",
        " ",
        "[]",
        "{}",
        '["a", "b"]',
        "\ud800",
        "Q: a\nA: b",
        "nan",
        "\0",
        None,
        3,
        ["a"],
        True,
    ]

    def made(record: Record) -> Any:
        try:
            found = shaped(record, asked, history)
        except RefusedError as refused:
            return str(refused)
        return found.shape, found.rows, found.conversations, found.notices, found.unused

    for prompt in texts:
        for response in texts:
            record = {"prompt": prompt, "id": 7, "response": response}
            assert made(record) == made({**record, "system": ""})
