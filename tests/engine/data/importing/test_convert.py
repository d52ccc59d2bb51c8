"""Files in the usual shapes become two columns; what cannot be used is counted with its reason, whatever it is."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.contract.import_report import ReasonCount, ReasonDetail
from engine.contract.messages import InputError
from engine.contract.requests import ImportRequest
from engine.data.importing.convert import columns_to_name, import_files
from tests.engine.data.conftest import GOOD, LONG_TALK, ONE, Importer, counts, lines
from tests.engine.data.shapes.conftest import turns

Pairs = list[tuple[str, str]]


SHAPES = [
    ({"prompt": "你好", "response": "你好！"}, "prompt/response", ONE),
    ({"question": "你好", "answer": "你好！", "id": 3}, "question/answer", ONE),
    ({"问题": "你好", "回答": "你好！"}, "问题/回答", ONE),
    ({"instruction": "你好", "input": "", "output": "你好！"}, "alpaca", ONE),
    ({"instruction": "翻译", "input": "hello", "output": "你好"}, "alpaca", [("翻译\nhello", "你好")]),
    ({"conversations": [{"from": "human", "value": "你好"}, {"from": "gpt", "value": "你好！"}]}, "sharegpt", ONE),
    ({"messages": [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "你好！"}]}, "messages", ONE),
    (
        {"messages": [
            {"role": "system", "content": "简短"}, {"role": "user", "content": [{"type": "text", "text": "一"}]},
            {"role": "assistant", "content": "1"}, {"role": "user", "content": "二"},
            {"role": "assistant", "content": "2"},
        ]},
        "messages",
        [("简短\n一", "1"), ("简短\nQ: 一\nA: 1\nQ: 二", "2")],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("record", "shape", "rows"), SHAPES)
@pytest.mark.parametrize("form", ["lines", "array", "data", "parquet"])
def test_each_shape_in_each_form(
    import_rows: Importer, tmp_path: Path, record: Any, shape: str, rows: Pairs, form: str
) -> None:
    if form == "parquet":
        if any(isinstance(turn["content"], list) for turn in record.get("messages", ())):
            pytest.skip("a column of a Parquet file has one type")
        pq.write_table(pa.Table.from_pylist([record]), tmp_path / "in.parquet")
        content: str | bytes = (tmp_path / "in.parquet").read_bytes()
    else:
        content = {
            "lines": lines(record),
            "array": json.dumps([record], indent=2),
            "data": json.dumps({"version": [1], "data": [record]}),
        }[form]
    found, train, _ = import_rows(content, "rows.parquet" if form == "parquet" else "rows.json")
    assert train == rows
    assert found.shapes == {shape: 1}
    assert [file.format for file in found.files] == [
        "jsonl" if form == "lines" else "json" if form != "parquet" else form
    ]


BAD = [
    ('{"prompt": "x"\n', "json_broken"),
    ("[" * 100_000 + "\n", "json_broken"),
    ('"just text"\n', "not_object"),
    (lines({"text": "x"}), "no_known_columns:text"),
    (lines({"prompt": None, "response": "x"}), "prompt_null"),
    (lines({"prompt": "x", "response": "  "}), "response_empty"),
    (lines({"prompt": True, "response": "x"}), "prompt_not_text:true"),
    ('{"prompt": "\\ud800", "response": "x"}\n', "prompt_not_utf8"),
    (lines({"messages": [{"role": "user", "content": "x"}]}), "no_answer"),
    (lines({"messages": [3]}), "turn_not_object"),
    (lines({"conversations": [{"from": role, "value": "x"} for role in ("human", "tool", "gpt")]}),
     "role_of_tools:tool"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "why"), BAD)
def test_unusable_records_are_counted_with_their_place(import_rows: Importer, line: str, why: str) -> None:
    found, train, _ = import_rows(GOOD + line + lines({"prompt": "c", "response": "d"}))
    assert train == [("a", "b"), ("c", "d")]
    code, _, detail = why.partition(":")
    assert found.refused == {code: ReasonCount(1, "rows.jsonl:2", (ReasonDetail(detail, 1, ("rows.jsonl:2",)),))}
    assert (found.records, found.used) == (3, 2)


@pytest.mark.parametrize(
    ("record", "remedy"),
    [
        ({"text": "x"}, "--prompt_column"),
        ({"parent_id": None, "role": "prompter", "text": "x"}, "`role` and `content`"),
        ({"question": "x", "choices": ["y", "z"], "answer": 1}, "letter or the text"),
        (["text"], 'orient="records"'),
    ],
)
def test_an_import_without_rows_says_how_to_fix_it(import_rows: Importer, record: Any, remedy: str) -> None:
    with pytest.raises(InputError) as refused:
        import_rows(lines(record, record))
    assert remedy in refused.value.message.fix("en")
    assert refused.value.message.fix("zh")


@pytest.mark.parametrize(
    "record",
    [
        {"messages": [{"role": "user", "content": 10**400}, {"role": "assistant", "content": "x"}]},
        {"instruction": "i", "input": 10**400, "output": "o"}, {"prompt": "a", "response": [10**400]},
    ],
)  # fmt: skip
def test_a_number_of_hundreds_of_digits_is_a_text_like_others(import_rows: Importer, record: Any) -> None:
    found, train, _ = import_rows(lines(record, {"prompt": "q", "response": "a"}), "rows.jsonl")
    assert (found.records, found.rows) == (2, 2)
    assert str(10**400) in "".join(train[0] + train[1])


def test_repeated_rows_are_left_out(import_rows: Importer) -> None:
    found, train, _ = import_rows(GOOD * 3 + lines({"prompt": "a", "response": "c"}))
    assert train == [("a", "b"), ("a", "c")]
    assert (found.made, found.repeated, found.kept) == (4, 2, 2)


def test_no_prompt_is_in_both_files(import_rows: Importer, many: str, tmp_path: Path) -> None:
    found, train, valid = import_rows(many, valid=str(tmp_path / "valid.parquet"), valid_ratio=0.1)
    assert (len(train), len(valid)) == (180, 20) == (found.train_rows, found.valid_rows)
    assert not {prompt for prompt, _ in train} & {prompt for prompt, _ in valid}
    assert train == sorted(train, key=lambda row: int(row[1][2:]))


def test_sample_and_split_depend_only_on_the_seed(import_rows: Importer, many: str, tmp_path: Path) -> None:
    how = {"valid": str(tmp_path / "valid.parquet"), "valid_ratio": 0.2, "sample": 50}
    _, *first = import_rows(many, **how)
    _, *again = import_rows(many, **how)
    _, *other = import_rows(many, **how, seed=7)
    assert sum(map(len, first)) == 50
    assert first == again != other


def test_nothing_usable_writes_nothing_and_says_why(import_rows: Importer, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        import_rows(lines({"text": "x"}))
    assert refused.value.message.code == "import_nothing"
    assert "no known columns among text: 1" in refused.value.message.text()
    assert {path.name for path in tmp_path.iterdir()} == {"rows.jsonl"}


@pytest.mark.parametrize(
    ("record", "how", "remedy"),
    [
        ({"messages": turns("a")}, {}, "_content"),
        ({"messages": turns("a", "")}, {}, "_content"),
        ({"messages": turns("a", "b"), "tools": '[{"name": "f"}]'}, {"form": "pairs"}, "_tools"),
        ({}, {}, "_content"),
        ({"text": "x"}, {}, ""),
    ],
)
def test_the_remedy_is_that_of_the_reason(import_rows: Importer, record: Any, how: dict[str, Any], remedy: str) -> None:
    with pytest.raises(InputError) as refused:
        import_rows(lines(record), **how)
    assert refused.value.message.code == f"import_nothing{remedy}"


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(GOOD)
    found = import_files(ImportRequest((str(path),)), lambda *_: None)
    assert (found.rows, found.preview) == (1, (("a", "b"),))
    assert list(tmp_path.iterdir()) == [path]


def test_an_imported_file_can_be_imported_again_with_its_turns(import_rows: Importer, tmp_path: Path) -> None:
    import_rows(lines(LONG_TALK))
    first = pq.read_table(tmp_path / "train.parquet")
    again = (tmp_path / "train.parquet").read_bytes()
    _, rows, _ = import_rows(again, "again.parquet", train=str(tmp_path / "second.parquet"))
    assert len(rows) == 3
    assert pq.read_table(tmp_path / "second.parquet").equals(first)
    _, fewer, _ = import_rows(again, "again.parquet", train=str(tmp_path / "fewer.parquet"), history=1)
    assert sorted(prompt for prompt, _ in fewer) == ["简短\nA: 1\nQ: 乙", "简短\nA: 2\nQ: 丙", "简短\n甲"]


def test_an_imported_row_edited_since_is_refused(import_rows: Importer, tmp_path: Path) -> None:
    import_rows(lines(LONG_TALK))
    table = pq.read_table(tmp_path / "train.parquet")
    edited = [f"！{prompt}" for prompt in table["prompt"].to_pylist()]
    pq.write_table(table.set_column(0, "prompt", [edited]), tmp_path / "edited.parquet")
    found, rows, _ = import_rows((tmp_path / "edited.parquet").read_bytes(), "edited.parquet")
    assert (len(rows), counts(found)) == (1, {"turns_elsewhere:prompt_turns": 2})


@pytest.mark.parametrize(("name", "content", "asked", "named"), [
    ("a.csv", "id,frage,antwort\n1,hi,ja\n2,yo,nein\n", {}, {"id": "1", "frage": "hi", "antwort": "ja"}),
    ("a.jsonl", lines({"frage": "", "n": 3}, {"frage": "yo", "error": "x"}), {},
     {"frage": "yo", "n": "3", "error": "x"}),
    ("a.tsv", "question\tquery\tanswer\na\tb\tc\n", {}, {"question": "a", "query": "b", "answer": "c"}),
    ("a.csv", "问题,回答\n你好,好\n", {"prompt_column": "frage"}, {"问题": "你好", "回答": "好"}),
    ("a.csv", "question,answer\nhi,yes\n", {}, {}),
    ("a.csv", "question,answer\nhi,\n", {}, {}),
    ("a.json", "[1, 2]", {}, {}),
])  # fmt: skip
def test_unknown_columns_must_be_named(
    tmp_path: Path, name: str, content: str, asked: dict[str, Any], named: dict[str, str]
) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert columns_to_name(ImportRequest((str(tmp_path / name),), **asked), lambda *_: None) == named
