"""Files in the usual shapes become two columns; what cannot be used is counted with its reason, whatever it is."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.contract.messages import InputError
from engine.data.importing.convert import ImportRequest, columns_to_name, import_files, import_pairs
from engine.data.parquet_rows import RowSource

Pairs = list[tuple[str, str]]
Importer = Callable[..., tuple[dict[str, Any], Pairs, Pairs]]
ONE = [("你好", "你好！")]


@pytest.fixture
def import_rows(tmp_path: Path) -> Importer:
    """Imports content under a file name; what came of it, and the rows of both files."""

    def import_one(content: str | bytes, name: str = "rows.jsonl", **how: Any) -> tuple[dict[str, Any], Pairs, Pairs]:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        how = {"train": str(tmp_path / "train.parquet"), "valid_ratio": 0.0, "overwrite": True, **how}
        found = import_files(ImportRequest([str(path)], **how), lambda *_: None)
        return found, rows_of(how["train"]), rows_of(how.get("valid"))

    return import_one


def rows_of(path: str | None) -> Pairs:
    """The rows of a file that was written."""
    if not path or not Path(path).exists():
        return []
    table = pq.read_table(path)
    prompts, responses, *turns = (column.to_pylist() for column in table.columns)
    assert table.column_names == ["prompt", "response", "prompt_turns"][: 2 + len(turns)]
    begin = [[turn.start() for turn in re.finditer("^[QA]: ", prompt, re.MULTILINE)] for prompt in prompts]
    assert begin == ([places or [] for places in turns[0]] if turns else [[]] * len(prompts))
    return list(zip(prompts, responses, strict=True))


def lines(*records: Any) -> str:
    """JSON Lines."""
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def counts(found: dict[str, Any]) -> dict[str, int]:
    """What was refused, by reason."""
    return {
        ":".join(filter(None, (code, part["detail"]))): part["count"]
        for code, entry in found["refused"].items()
        for part in entry["details"]
    }


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
    assert found["shapes"] == {shape: 1}
    assert [file["format"] for file in found["files"]] == [
        "jsonl" if form == "lines" else "json" if form != "parquet" else form
    ]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("prompt,response\n你好,你好！\n", ONE),
        ("\ufeffprompt,response\r\n你好,你好！\r\n", ONE),
        ("prompt\tresponse\n你好\t你好！\n", ONE),
        ("prompt;response\n你好;你好！\n", ONE),
        ('id,prompt,response\n1,"a ""b""\nc",d\n', [('a "b"\nc', "d")]),
    ],
)
def test_a_csv_is_imported(import_rows: Importer, text: str, rows: Pairs) -> None:
    assert import_rows(text, "rows.csv")[1] == rows


@pytest.mark.parametrize("encoding", ["gb18030", "utf-16", "utf-8-sig"])
def test_other_encodings_are_detected_and_reported(import_rows: Importer, encoding: str) -> None:
    found, train, _ = import_rows("prompt,response\n你好,你好！\n".encode(encoding), "rows.csv")
    assert train == ONE
    assert [file["encoding"] for file in found["files"]] == [encoding]


GOOD = lines({"prompt": "a", "response": "b"})
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
    (lines({"conversations": [{"from": "tool", "value": "x"}]}), "role_of_tools:tool"),
]


@pytest.mark.parametrize(("line", "why"), BAD)
def test_unusable_records_are_counted_with_their_place(import_rows: Importer, line: str, why: str) -> None:
    found, train, _ = import_rows(GOOD + line + lines({"prompt": "c", "response": "d"}))
    assert train == [("a", "b"), ("c", "d")]
    code, _, detail = why.partition(":")
    details = [{"detail": detail, "count": 1, "places": ["rows.jsonl:2"]}]
    assert found["refused"] == {code: {"count": 1, "first": "rows.jsonl:2", "details": details}}
    assert (found["records"], found["used"]) == (3, 2)


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


def test_invalid_bytes_refuse_only_their_line(import_rows: Importer) -> None:
    found, train, _ = import_rows(GOOD.encode() + b'{"prompt": "\xff\xff\xff", "response": "x"}\n')
    assert train == [("a", "b")]
    assert counts(found) == {"prompt_not_utf8": 1}


def test_a_truncated_array_gives_the_records_before_the_cut(import_rows: Importer) -> None:
    found, train, _ = import_rows('[{"prompt": "a", "response": "b"}, {"prompt": "c", "resp', "rows.json")
    assert train == [("a", "b")]
    assert counts(found) == {"json_broken": 1}


def test_an_array_longer_than_the_window_is_read_to_its_end(
    import_rows: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.data.importing.jsonfile.CHUNK", 7)
    rows = [(f"问{i}", "答" * i) for i in range(1, 60)]
    content = json.dumps([{"prompt": p, "response": r} for p, r in rows], ensure_ascii=False)
    assert import_rows(content, "rows.json")[1] == rows


def test_repeated_rows_are_left_out(import_rows: Importer) -> None:
    found, train, _ = import_rows(GOOD * 3 + lines({"prompt": "a", "response": "c"}))
    assert train == [("a", "b"), ("a", "c")]
    assert (found["made"], found["repeated"], found["kept"]) == (4, 2, 2)


@pytest.fixture
def many() -> str:
    """Two hundred rows, of whose prompts each comes twice."""
    return lines(*({"prompt": f"问 {i % 100}", "response": f"答 {i}"} for i in range(200)))


def test_no_prompt_is_in_both_files(import_rows: Importer, many: str, tmp_path: Path) -> None:
    found, train, valid = import_rows(many, valid=str(tmp_path / "valid.parquet"), valid_ratio=0.1)
    assert (len(train), len(valid)) == (180, 20) == (found["train_rows"], found["valid_rows"])
    assert not {prompt for prompt, _ in train} & {prompt for prompt, _ in valid}
    assert train == sorted(train, key=lambda row: int(row[1][2:]))


def test_sample_and_split_depend_only_on_the_seed(import_rows: Importer, many: str, tmp_path: Path) -> None:
    how = {"valid": str(tmp_path / "valid.parquet"), "valid_ratio": 0.2, "sample": 50}
    _, *first = import_rows(many, **how)
    _, *again = import_rows(many, **how)
    _, *other = import_rows(many, **how, seed=7)
    assert sum(map(len, first)) == 50
    assert first == again != other


def test_what_is_written_carries_checksums(import_rows: Importer, many: str, tmp_path: Path) -> None:
    import_rows(many)
    path = tmp_path / "train.parquet"
    data = bytearray(path.read_bytes())
    data[60] ^= 1
    path.write_bytes(data)
    source = RowSource(path, "train_file", "prompt", "response")
    with pytest.raises(InputError) as refused:
        list(source.batches(source.open()))
    assert refused.value.message.code == "parquet_bad"


def test_an_existing_file_is_not_overwritten_unasked(import_rows: Importer, tmp_path: Path) -> None:
    import_rows(GOOD)
    before = (tmp_path / "train.parquet").read_bytes()
    with pytest.raises(InputError) as refused:
        import_rows(lines({"prompt": "x", "response": "y"}), overwrite=False)
    assert refused.value.message.code == "import_exists"
    assert (tmp_path / "train.parquet").read_bytes() == before


def test_nothing_usable_writes_nothing_and_says_why(import_rows: Importer, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        import_rows(lines({"text": "x"}))
    assert refused.value.message.code == "import_nothing"
    assert "no known columns among text: 1" in refused.value.message.text()
    assert {path.name for path in tmp_path.iterdir()} == {"rows.jsonl"}


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(GOOD)
    found = import_files(ImportRequest([str(path)]), lambda *_: None)
    assert (found["rows"], found["preview"]) == (1, [["a", "b"]])
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_is_named(import_rows: Importer) -> None:
    with pytest.raises(InputError) as refused:
        import_rows(GOOD, train="/dev/null/train.parquet")
    assert refused.value.message.code == "folder_unwritable"


def test_pairs_made_from_files_are_written_like_any(tmp_path: Path) -> None:
    target = tmp_path / "out.parquet"
    found = import_pairs(
        ImportRequest(files=["rows.parquet"], train=str(target), valid=""), iter([("问", "答"), ("问", "答")])
    )
    assert found["rows"] == 1
    assert target.is_file()


LONG_TALK = {
    "system": "简短",
    "conversations": [
        {"from": role, "value": text}
        for text, role in zip(["甲", "1", "乙", "2", "丙", "3"], ["human", "gpt"] * 3, strict=True)
    ],
}


def test_the_turns_column_is_written_only_if_a_row_has_history(import_rows: Importer, tmp_path: Path) -> None:
    import_rows(lines(LONG_TALK), history=0)
    assert pq.read_schema(tmp_path / "train.parquet").names == ["prompt", "response"]
    import_rows(lines(LONG_TALK, {"prompt": "你好", "response": "你好！"}))
    written = pq.read_table(tmp_path / "train.parquet")
    assert written.schema.names == ["prompt", "response", "prompt_turns"]
    starts = dict(zip(written["prompt"].to_pylist(), written["prompt_turns"].to_pylist(), strict=True))
    assert starts["你好"] is starts["简短\n甲"] is None
    assert starts["简短\nQ: 甲\nA: 1\nQ: 乙"] == [3, 8, 13]


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
    assert columns_to_name(ImportRequest([str(tmp_path / name)], **asked), lambda *_: None) == named
