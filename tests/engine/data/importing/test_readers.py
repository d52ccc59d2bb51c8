"""Formats, compressions, encodings and dialects as people have them: read, or refused with what to do."""

import bz2
import gzip
import json
import lzma
import os
import pickle
import sqlite3
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from engine.contract.messages import InputError
from engine.data.formats import content_of
from engine.data.importing.charset import require_encoding
from engine.data.importing.convert import ImportRequest, import_files
from tests.permissions import enforced

Pairs = list[tuple[str, str]]
Reader = Callable[..., tuple[dict[str, Any], Pairs]]
ROWS = [(f"问题{number}是什么？", f"答案是{number}。") for number in range(20)]
LINES = "".join(json.dumps({"prompt": p, "response": r}, ensure_ascii=False) + "\n" for p, r in ROWS)
TABLE = pa.table({"prompt": [p for p, _ in ROWS], "response": [r for _, r in ROWS]})


@pytest.fixture
def read(tmp_path: Path) -> Reader:
    """Imports content under a name, or a path; the account and the rows."""

    def read_one(content: str | bytes | Path, name: str = "rows.csv", **how: Any) -> tuple[dict[str, Any], Pairs]:
        path = content if isinstance(content, Path) else tmp_path / name
        if not isinstance(content, Path):
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        target = tmp_path / "train-file.parquet"
        found = import_files(
            ImportRequest([str(path)], train=str(target), valid="", overwrite=True, **how), lambda *_: None
        )
        assert found["records"] == found["used"] + sum(entry["count"] for entry in found["refused"].values())
        rows = pq.read_table(target).to_pylist()
        return found, [(row["prompt"], row["response"]) for row in rows]

    return read_one


def places(found: dict[str, Any], kind: str = "refused") -> dict[str, list[str]]:
    """Reasons, `code:detail`, with the lines that they were first met in."""
    return {
        ":".join(filter(None, (code, part["detail"]))): [place.split(":")[1] for place in part["places"]]
        for code, entry in found[kind].items()
        for part in entry["details"]
    }


def csv_text(*lines: str, delimiter: str = ",") -> str:
    return "".join(f"{line}\n" for line in (f"prompt{delimiter}response", *lines))


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
    # a comment is no record before the header, and a refused one behind it
    ("# 2024\n" + csv_text("# 说明", "#甲,乙"), [("#甲", "乙")], {"comment_line": ["3"]}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "rows", "refused"), CSV)
def test_no_record_of_a_csv_is_swallowed_or_cut(read: Reader, text: str, rows: Pairs, refused: Any) -> None:
    found, came = read(text)
    assert came == rows
    assert places(found) == refused


ONE, TWO = ('{"prompt": "一", "response": "1"}', '{"prompt": "二", "response": "2"}')
BOTH = [("一", "1"), ("二", "2")]
JSON = [
    (f"[{ONE}]\n[{TWO}]", BOTH, {}),
    (f"[{ONE}][{TWO}]", BOTH, {}),
    (f"[{ONE}],\n[{TWO}]", BOTH, {}),
    (f"[[{ONE}], [{TWO}]]", BOTH, {}),
    (f'{{"data": [{ONE}]}}\n{{"data": [{TWO}]}}\n', BOTH, {}),
    (f'{{"data": [{ONE}], "version": 2}}{TWO}', BOTH, {}),
    (f"{ONE}\n[{TWO}]\n", BOTH, {}),
    (f"{ONE} {TWO}", BOTH, {}),
    (json.dumps(json.loads(ONE), indent=2) + "\n" + TWO, BOTH, {}),
    ('{"data": [{"source": "web"}], ' + ONE[1:] + "\n" + TWO, BOTH, {}),
    # one broken record among others, on one line and on many
    (f'[{ONE}, {{"prompt": "坏" "response": "x"}}, {TWO}]', BOTH, {"json_broken": ["1#2"]}),
    (f'[{ONE}, {{"prompt": "坏, "response": "x"}}, {TWO}]', BOTH, {"json_broken": ["1#2"]}),
    (f'{{"data": [{ONE}, {{"prompt": "坏"; "response": "x"}}, {TWO}]}}', BOTH, {"json_broken": ["1#2"]}),
    (f'[\n{ONE},\n{{"prompt": "坏", "response": "x",\n{TWO}\n]', BOTH, {"json_broken": ["3"]}),
    (f'[\n{ONE},\n{{"prompt": "坏\n行", "response": "x"}},\n{TWO}\n]', BOTH, {"json_broken": ["3"]}),
    (f'{ONE}\n{{"prompt": "坏", "resp\n{TWO}\n', BOTH, {"json_broken": ["2"]}),
    (f"{ONE}\n{ONE[:-1]}\n{TWO}\n", BOTH, {"json_broken": ["2"]}),
    # what is no record
    (f'[{ONE}, 7, "text", null, {TWO}]', BOTH, {"not_object": ["1#2", "1#3", "1#4"]}),
    ('{"train": [' + ONE + '], "test": [' + TWO + "]}", [("一", "1")], {"other_split:test": ["1#test.1"]}),
    # keys that come twice, NaN, numbers of any size
    (f'{{"prompt": "a", "prompt": "b", "response": "c"}}\n{ONE}', [("一", "1")], {"key_repeated:prompt": ["1"]}),
    (f'{{"id": NaN, "n": {9**99}, {ONE[1:]}\n{TWO}', BOTH, {}),
    (f'[{{"id": NaN, "n": {9**99}, {ONE[1:]},\n{TWO}]', BOTH, {}),
    (f'[{{"prompt": "\\ud800", "response": "x"}}, {ONE}]', [("一", "1")], {"prompt_not_utf8": ["1"]}),
    ("[" * 5000 + f"\n{ONE}\n{TWO}", BOTH, {"json_broken": ["1"]}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "rows", "refused"), JSON)
def test_every_record_of_a_json_file_is_used_or_counted(read: Reader, text: str, rows: Pairs, refused: Any) -> None:
    for name in ("rows.json", "rows.jsonl"):
        found, came = read(text, name)
        assert came == rows
        assert places(found) == refused


def test_a_list_longer_than_the_window_is_read_to_its_end(read: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.data.importing.jsonfile.WRAPPER", 200)
    monkeypatch.setattr("engine.data.importing.jsonfile.CHUNK", 50)
    records = [{"prompt": p, "response": r} for p, r in ROWS]
    for indent in (None, 1):
        found, came = read(json.dumps({"a": {"b": [1]}, "data": records, "n": 2}, indent=indent), "rows.json")
        assert came == ROWS
        assert found["records"] == len(ROWS)


def test_comment_lines_are_reported_and_cost_no_record(read: Reader) -> None:
    found, came = read("// exported\n# by hand\n" + LINES, "rows.jsonl")
    assert came == ROWS
    assert places(found, "noticed") == {"comment_line": ["1", "2"]}


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue())


PACK: list[Callable[[bytes], bytes]] = [gzip.compress, zstd, bz2.compress, lzma.compress]


@pytest.mark.parametrize("pack", PACK)
def test_compressed_files_are_read_whatever_their_name(read: Reader, pack: Callable[[bytes], bytes]) -> None:
    assert read(pack(LINES.encode()), "rows.bin")[1] == ROWS
    half = LINES.index("\n", len(LINES) // 2) + 1
    joined = pack(LINES[:half].encode()) + pack(LINES[half:].encode())
    assert read(joined, "rows.jsonl")[1] == ROWS
    assert read(pack(csv_text("甲,乙").encode("gb18030") * 3), "rows.csv.gz")[1] == [
        ("甲", "乙"),
        ("prompt", "response"),
    ]


@pytest.mark.parametrize("pack", PACK)
def test_a_truncated_compressed_file_writes_nothing(
    read: Reader, tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    with pytest.raises(InputError) as refused:
        read(pack(LINES.encode())[:-20], "rows.jsonl.x")
    assert refused.value.message.code == "source_compressed"
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl.x"]


@pytest.mark.parametrize("form", ["stream", "feather", "uncompressed", "large", "binary"])
def test_arrow_files_are_read(read: Reader, tmp_path: Path, form: str) -> None:
    path, table = tmp_path / "rows.any", TABLE
    if form == "large":
        table = table.cast(pa.schema([(name, pa.large_string()) for name in table.column_names]))
    if form == "binary":
        table = table.cast(pa.schema([(name, pa.binary()) for name in table.column_names]))
    if form == "stream":
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
    else:
        feather.write_feather(table, path, compression="uncompressed" if form == "uncompressed" else "lz4")
    assert read(path)[1] == ROWS


def test_utf8_in_binary_columns_is_read_and_other_bytes_refused(read: Reader, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"prompt": [b"a", "问".encode(), b"\xff"], "response": ["1", "2", "3"]}), path)
    found, came = read(path)
    assert came == [("a", "1"), ("问", "2")]
    assert places(found) == {"prompt_not_utf8": ["2"]}


def passed_over(found: dict[str, Any]) -> dict[str, str]:
    """The files of a folder that were not read, and why."""
    reasons = ((code, part) for code, entry in found["passed_over"].items() for part in entry["details"])
    return {Path(path).name: f"{code} {part['detail']}".rstrip() for code, part in reasons for path in part["places"]}


def test_a_folder_of_shards_is_read_in_order(read: Reader, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    (folder / "data").mkdir(parents=True)
    for number in range(3):
        pq.write_table(TABLE.slice(number * 7, 7), folder / "data" / f"train-{number:05d}-of-00003.parquet")
    pq.write_table(TABLE, folder / "data" / "test-00000-of-00001.parquet")
    for name in ("README.md", ".gitattributes", "dataset_infos.json", "empty.csv"):
        (folder / name).write_text("{}" if name.endswith("json") else "# x" if name != "empty.csv" else "")
    found, came = read(folder)
    assert came == ROWS
    assert [file["records"] for file in found["files"]] == [7, 7, 6]
    assert passed_over(found) == {
        "README.md": "other_name", ".gitattributes": "hidden", "dataset_infos.json": "metadata", "empty.csv": "empty",
        "test-00000-of-00001.parquet": "other_split test",
    }  # fmt: skip
    assert read(Path(f"{folder}/data/t*t-*.parquet"))[1] == ROWS


def saved(folder: Path, table: pa.Table) -> None:
    """A folder as `save_to_disk` of `datasets` leaves it, with a file that it keeps for itself."""
    folder.mkdir(parents=True)
    listed = []
    for number in range(2):
        name = f"data-{number:05d}-of-00002.arrow"
        with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table.slice(number * 10, 10))
        listed.append({"filename": name})
    (folder / "state.json").write_text(json.dumps({"_data_files": listed}))
    (folder / "dataset_info.json").write_text("{}")
    (folder / "cache-1234.arrow").write_bytes((folder / name).read_bytes())


def test_a_save_to_disk_folder_is_read(read: Reader, tmp_path: Path) -> None:
    saved(tmp_path / "one", TABLE)
    found, came = read(tmp_path / "one")
    assert came == ROWS
    assert passed_over(found) == {"cache-1234.arrow": "not_listed"}
    saved(tmp_path / "splits" / "train", TABLE)
    saved(tmp_path / "splits" / "test", TABLE)
    (tmp_path / "splits" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    found, came = read(tmp_path / "splits")
    assert (came, found["repeated"]) == (ROWS, 0)
    assert passed_over(found)["test"] == "other_split test"


CHINESE = ["请问今天天气怎么样", "今天天气很好", "北京在哪里", "我很好谢谢"]
TAIWAN = ["請問今天天氣如何", "今天天氣很好", "台北在哪裡", "我很好謝謝"]
JAPANESE = ["今日の天気はどうですか", "とても良いです", "東京はどこですか", "ありがとう"]
KOREAN = ["오늘 날씨 어때요", "아주 좋아요", "서울은 어디에 있나요", "감사합니다"]
FRENCH = ["Où est la gare à Paris ?", "Là-bas, très près du café.", "Ça va ?", "Très bien, merci, et toi, élève ?"]


@pytest.mark.parametrize(
    ("texts", "encoding"),
    [
        *((CHINESE, name) for name in ("gbk", "gb18030", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be")),
        *((CHINESE, name) for name in ("utf-32", "utf-32-le")),
        *((TAIWAN, name) for name in ("big5", "cp950", "gbk", "utf-16-le")),
        *((JAPANESE, name) for name in ("shift_jis", "euc_jp")),
        *((KOREAN, name) for name in ("euc_kr", "cp949")),
        *((FRENCH, name) for name in ("cp1252", "latin-1")),
    ],
)
@pytest.mark.parametrize("form", ["csv", "json"])
def test_texts_are_read_in_their_encoding(read: Reader, texts: list[str], encoding: str, form: str) -> None:
    rows = list(zip(texts[::2], texts[1::2], strict=True))
    records = [{"prompt": p, "response": r} for p, r in rows]
    text = json.dumps(records, ensure_ascii=False) if form == "json" else csv_text(*(f'"{p}","{r}"' for p, r in rows))
    assert read(text.encode(encoding), f"rows.{form}")[1] == rows


def test_an_ambiguous_encoding_is_asked_for(read: Reader) -> None:
    content = csv_text("Zażółć gęślą jaźń,Ąś", "Źle,Dobrze ą").encode("cp1250")
    with pytest.raises(InputError) as refused:
        read(content)
    assert refused.value.message.code == "encoding_doubt"
    assert "cp1250" in refused.value.message.text()
    assert read(content, encoding="cp1250")[1][0] == ("Zażółć gęślą jaźń", "Ąś")
    with pytest.raises(InputError) as refused:
        read(content, encoding="no-such")
    assert refused.value.message.code == "encoding_unknown"


def test_a_line_in_another_encoding_costs_only_itself(read: Reader) -> None:
    other = '{"prompt": "混入", "response": "国标"}\n'.encode("gbk")
    found, came = read(LINES.encode() + other, "rows.jsonl")
    assert came == ROWS
    ((reason, lines),) = places(found).items()
    assert (reason.partition("_")[2], lines) == ("not_utf8", ["21"])


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


def foreign(tmp_path: Path) -> dict[str, Path]:
    """Files that hold no rows that can be read, by their kinds."""
    made = {
        "pickle": pickle.dumps({"prompt": ["a"]}), "lfs": b"version https://git-lfs.github.com/spec/v1\noid x\n",
        "html": b"\n<!DOCTYPE html><html>Sign in</html>", "pdf": b"%PDF-1.7\n",
        "xls": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    }  # fmt: skip
    paths = {kind: tmp_path / f"{kind}.csv" for kind in ("xlsx", "zip", "sqlite", *made)}
    for kind, content in made.items():
        paths[kind].write_bytes(content)
    for kind, member in (("xlsx", "xl/workbook.xml"), ("zip", "rows.csv")):
        with zipfile.ZipFile(paths[kind], "w") as archive:
            archive.writestr(member, "x")
    base = sqlite3.connect(paths["sqlite"])
    base.execute("create table rows (prompt, response)")
    base.commit()
    base.close()
    return paths


def test_a_file_of_another_kind_is_named_with_what_to_do(read: Reader, tmp_path: Path) -> None:
    for kind, path in foreign(tmp_path).items():
        assert content_of(path).kind == kind
        with pytest.raises(InputError) as refused:
            read(path)
        assert refused.value.message.code == "source_foreign"
        assert refused.value.message.fix("zh")
    with pytest.raises(InputError) as refused:
        read(tmp_path / "nowhere*.csv")
    assert refused.value.message.code == "source_missing"


def test_a_terabyte_hole_is_refused_at_once(tmp_path: Path, read: Reader) -> None:
    for name in ("rows.jsonl", "rows.csv", "rows.parquet"):
        (tmp_path / name).touch()
        os.truncate(tmp_path / name, 1 << 40)
        with pytest.raises(InputError) as refused:
            read(tmp_path / name)
        assert refused.value.message.code == "source_foreign"


def test_a_folders_metadata_is_not_waited_for_or_read_endlessly(tmp_path: Path, read: Reader) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "rows.jsonl").write_text(LINES)
    os.mkfifo(folder / "state.json")
    (folder / "dataset_dict.json").symlink_to("/dev/zero")
    found, came = read(folder)
    assert came == ROWS
    assert passed_over(found) == {"state.json": "metadata", "dataset_dict.json": "metadata"}


def test_an_unreadable_subfolder_is_named(tmp_path: Path, read: Reader) -> None:
    closed = tmp_path / "set/closed"
    closed.mkdir(parents=True)
    (tmp_path / "set/rows.jsonl").write_text(LINES)
    closed.chmod(0)
    with enforced(), pytest.raises(InputError, match="set/closed cannot be read: Permission denied"):
        read(tmp_path / "set")


def test_time_grows_linearly_with_the_number_of_columns(read: Reader) -> None:
    names = ["prompt", "response", *(f"c{number}" for number in range(30_000))]
    before = time.process_time()
    _, came = read(f"{','.join(names)}\n{','.join('1' for _ in names)}\n")
    assert came == [("1", "1")]
    assert time.process_time() - before < 10  # where each was looked for among all, it took a minute


@pytest.mark.parametrize("name", ["idna", "undefined", "zip", "rot13", "no such", "../x"])
def test_a_codec_that_is_not_a_text_encoding_is_refused(name: str) -> None:
    with pytest.raises(InputError) as refused:
        require_encoding(name)
    assert refused.value.message.code == "encoding_unknown"


def test_an_endless_record_costs_itself_and_little_memory(read: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.data.importing.jsonfile.LONGEST_RECORD", 1000)
    monkeypatch.setattr("engine.data.importing.jsonfile.CHUNK", 100)
    whole = '{"prompt": "' + "x" * 5000 + '", "response": "y"}'
    for endless in (whole, whole[:3000], whole[:3000] + '"'):  # a text that ends nowhere
        found, came = read(ONE + "\n" + endless + "\n" + TWO + "\n", "rows.jsonl")
        assert came == BOTH
        assert places(found) == {"record_long": ["2"]}


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


def test_a_decompression_bomb_is_refused_and_repetitive_rows_read(
    read: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, came = read(gzip.compress(LINES.encode() * 500, 1), "rows.jsonl")
    assert (came, found["records"]) == (ROWS, 10_000)
    monkeypatch.setattr("engine.data.compression.FREE", 1 << 20)
    for content in (b"\0" * (20 << 20), b'{"prompt": "' + b"x" * (20 << 20), b'a,"' + b"x,y\n" * (5 << 20)):
        with pytest.raises(InputError) as refused:
            read(gzip.compress(content, 1), "rows.csv")
        assert refused.value.message.code == "source_bomb"
        assert "200 times" in refused.value.message.text()


def test_progress_is_reported_within_a_record_too(tmp_path: Path) -> None:
    path, told = tmp_path / "rows.jsonl", []
    path.write_text('{"prompt": "' + "x" * (4 << 20) + '"\n' + LINES)
    import_files(ImportRequest([str(path)]), lambda _path, done, _total: told.append(done))
    assert len(set(told)) > 10


FRAME = {"prompt": ["一", "二"], "response": ["1", "2"]}
TABLES = [
    ("columns", {name: dict(enumerate(cells)) for name, cells in FRAME.items()}),
    ("columns", {name: dict(zip("xy", cells, strict=True)) for name, cells in FRAME.items()}),
    ("columns", {"messages": {"0": [{"role": "user", "content": "一"}, {"role": "assistant", "content": "1"}]}}),
    ("index", {"0": json.loads(ONE), "1": json.loads(TWO)}),
    ("index", {"7": json.loads(ONE)}),
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
    found, came = read(text + "\n" + ONE, "rows.json")
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
    pq.write_table(pa.table({"row": pa.array([json.loads(ONE)] * 2)}), tmp_path / "in.parquet")
    for content, name in ((tmp_path / "in.parquet", ""), (f'{{"row": {ONE}}}\n' * 2, "rows.jsonl")):
        with pytest.raises(InputError) as refused:
            read(content, name)
        assert "no known columns among row" in refused.value.message.text()


def test_a_named_encoding_that_fits_nothing_is_questioned(read: Reader) -> None:
    for encoding in ("utf-8", "ascii"):
        with pytest.raises(InputError) as refused:
            read(csv_text("请问,今天", "北京,在哪").encode("gbk"), encoding=encoding)
        assert "--encoding" in refused.value.message.fix("en")


def test_a_folder_with_too_many_files_is_refused_as_that(read: Reader, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("engine.data.importing.sources.MOST", 3)
    for number in range(4):
        (tmp_path / f"{number}.jsonl").write_text(LINES)
    with pytest.raises(InputError) as refused:
        read(tmp_path)
    assert "more than 3 files" in refused.value.message.what()
    assert "*.jsonl" in refused.value.message.fix("en")
