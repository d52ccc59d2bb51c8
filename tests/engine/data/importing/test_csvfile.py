"""CSV as people have it: no record is swallowed, each costs only itself."""

from typing import Any

import pytest

from tests.engine.data.conftest import BOTH, ONE, Importer, Pairs, Reader, csv_text, places

CSV = [
    # a quote that never closes, first, in the middle and last
    (csv_text('问,"没有结束', "甲,乙"), [("问", '"没有结束'), ("甲", "乙")], {}),
    (csv_text('"甲","乙"', '问,"没有结束', "丙,丁"), [("甲", "乙"), ("丙", "丁")], {"quote_stray": ["3"]}),
    (csv_text('"甲","乙"', "丙,丁", '问,"没有结束'), [("甲", "乙"), ("丙", "丁")], {"quote_stray": ["4"]}),
    # a record in quotes that breaks over three lines costs these, and not the line behind them
    (
        csv_text('"甲","乙"', '"一', '他说"好"', '三",答', "丙,丁"),
        [("甲", "乙"), ("丙", "丁")],
        {"quote_stray": ["3", "5"], "field_count:1/2": ["4"]},
    ),
    # commas without quotes, too few fields, empty fields behind the last
    (csv_text("你好,你好, 很高兴", "甲,乙"), [("甲", "乙")], {"field_count:3/2": ["2"]}),
    (csv_text("你好", "甲,乙"), [("甲", "乙")], {"field_count:1/2": ["2"]}),
    (csv_text("甲,乙,,", "丙,丁"), [("甲", "乙"), ("丙", "丁")], {}),
    # spaces after commas, quotes after backslashes, quotes within words
    (csv_text('"a, b", "c"'), [("a, b", "c")], {}),
    (csv_text('甲, "乙, ""丙"""', "丁, 戊"), [("甲", '乙, "丙"'), ("丁", " 戊")], {}),
    (csv_text(r'"他说\"好\", 走了","好的"', "甲,乙"), [('他说"好", 走了', "好的"), ("甲", "乙")], {}),
    (csv_text(r'"C:\",x'), [("C:\\", "x")], {}),
    (csv_text('他说 "好" 了,行', '"好"的意思,是'), [('他说 "好" 了', "行"), ('"好"的意思', "是")], {}),
    # inch marks in a table of tabs
    (csv_text('多大\t"15.6英寸', '多长\t"3 寸', "甲\t乙", delimiter="\t"), [
        ("多大", '"15.6英寸'), ("多长", '"3 寸'), ("甲", "乙"),
    ], {}),
    # other delimiters, and those in texts
    (csv_text("甲|乙", delimiter="|"), [("甲", "乙")], {}),
    ("sep=;\n" + csv_text("甲;乙", delimiter=";"), [("甲", "乙")], {}),
    (csv_text("你好;早,你好|晚"), [("你好;早", "你好|晚")], {}),
    # a comment before the header is not a record; after it, it is refused
    ("# 2024\n" + csv_text("# 说明", "#甲,乙"), [("#甲", "乙")], {"comment_line": ["3"]}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "rows", "refused"), CSV)
def test_no_record_of_a_csv_is_swallowed_or_cut(read: Reader, text: str, rows: Pairs, refused: Any) -> None:
    found, came = read(text)
    assert came == rows
    assert places(found) == refused


@pytest.mark.parametrize(
    ("before", "refused"),
    [
        ("", {"record_long": ["2"]}),
        ("甲,乙\n", {"record_long": ["3"]}),
        ('甲,"乙\n', {"quote_stray": ["2"], "record_long": ["3"]}),
        ('甲,"乙 \\" 丙\n', {"quote_stray": ["2"], "record_long": ["3"]}),
    ],
)
def test_an_overlong_csv_line_costs_only_itself(
    read: Reader, monkeypatch: pytest.MonkeyPatch, before: str, refused: Any
) -> None:
    for name in ("text_stream.LONGEST_RECORD", "csvfile.LONGEST_RECORD", "text_stream.CHUNK"):
        monkeypatch.setattr(f"engine.data.importing.{name}", 100 if name.startswith("text") else 10_000)
    long = f"长,{'x' * 5000}"
    for end in ("\n", "\r", "\r\n"):
        found, came = read("prompt,response\n" + before + f"{long}\n一,1\n二,2\n{long}".replace("\n", end))
        assert came == [("甲", "乙")] * (before == "甲,乙\n") + BOTH
        assert places(found) == {**refused, "record_long": [last := refused["record_long"][0], str(int(last) + 3)]}


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
