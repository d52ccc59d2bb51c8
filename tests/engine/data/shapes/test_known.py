"""Every shape of record becomes conversations: nothing of it is dropped unless that is said."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.contract.requests import ImportRequest
from engine.data.importing.convert import import_files
from engine.data.shapes.account import RefusedError
from engine.data.shapes.known import SHAPES, shaped
from tests.engine.data.shapes.conftest import TWO, Record, turns

Pairs = list[tuple[str, str]]
ONE = [("你好", "你好！")]


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
    found = import_files(ImportRequest((str(written(record, form, tmp_path)),), form="pairs"), lambda *_: None)
    assert [tuple(row) for row in found.preview] == rows
    assert (found.records, found.used, found.made) == (1, 1, len(rows))
    (name,) = found.shapes
    assert name.replace(" ", "") == shape.replace(" ", "")


def test_every_shape_is_tried() -> None:
    assert {shape.name for shape in SHAPES} <= {name for name, _, _ in RECORDS}


@pytest.mark.parametrize("label", [True, 1, None, "news", "true", "1"])
def test_a_preferred_answer_is_learned_unless_labelled_false(label: object) -> None:
    found = shaped({"prompt": "你好", "completion": "你好！", "label": label})
    assert [(row.prompt, row.response) for row in found.pairs()] == ONE


@pytest.mark.parametrize("label", [False, 0, "0", "false"])
def test_a_class_label_refuses_no_answer(label: object) -> None:
    found = shaped({"instruction": "你好", "output": "你好！", "label": label})
    assert [(row.prompt, row.response) for row in found.pairs()] == ONE
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
            found = shaped(record, asked)
        except RefusedError as refused:
            return str(refused)
        return found.shape, found.pairs(history), found.conversations, found.notices, found.unused

    for prompt in texts:
        for response in texts:
            record = {"prompt": prompt, "id": 7, "response": response}
            assert made(record) == made({**record, "system": ""})
