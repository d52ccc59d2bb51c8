"""Whatever stands in cells and happens to a file: sound records come in unchanged, and the account adds up."""

import csv
import io
import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.contract.import_report import ImportReport
from engine.contract.messages import InputError
from engine.contract.requests import ImportRequest
from engine.data.importing.convert import import_files

HOSTILE = st.sampled_from(
    [*list("\",\t;|\\'\n\r\0\ufeff \u2028\x85\u3000{}[]:#/"), '""', '","', "\r\n", '\\"', "a", "好"]
)
CELL = st.lists(st.one_of(HOSTILE, st.characters(exclude_categories=["Cs"])), max_size=12).map("".join)
ROWS = st.lists(st.tuples(CELL, CELL), min_size=1, max_size=200)
FEW = st.lists(st.tuples(CELL, CELL), min_size=1, max_size=8)
PLAIN = st.text(st.sampled_from("abc 好的，。"), min_size=1, max_size=6)
# Python's writer leaves a lone carriage return bare where lines end otherwise, which no strict reader reads.
QUOTED = [(csv.QUOTE_MINIMAL, "\r\n"), (csv.QUOTE_ALL, "\r\n"), (csv.QUOTE_ALL, "\n")]
BOUNDED = settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
Pairs = list[tuple[str, str]]


def imported(content: bytes, name: str) -> tuple[ImportReport | None, Pairs]:
    """The account of a file and the rows that it made; a file without a usable row has an account of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        target = str(Path(folder) / "train.parquet")
        try:
            found = import_files(ImportRequest((str(path),), train=target, valid="", encoding="utf-8"), lambda *_: None)
        except InputError as error:
            if not error.message.code.startswith(("import_nothing", "rows_none")):
                raise
            return None, []
        table = pq.read_table(target).to_pylist()
    refused = sum(entry.count for entry in found.refused.values())
    assert found.records == found.used + refused
    assert found.made == found.kept + found.repeated
    assert (found.kept, found.made) == (len(table), found.used)
    return found, [(row["prompt"], row["response"]) for row in table]


def usable(rows: Pairs) -> Pairs:
    """Those with something in both cells, each once."""
    return list(dict.fromkeys(row for row in rows if all(cell.strip() for cell in row)))


def csv_of(rows: Pairs, delimiter: str, **how: Any) -> str:
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter, **how)
    writer.writerow(["prompt", "response"])
    writer.writerows(rows)
    return file.getvalue()


def lines_of(rows: Pairs, **how: Any) -> str:
    return "".join(json.dumps({"prompt": p, "response": r}, **how) + "\n" for p, r in rows)


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
@given(rows=ROWS, quoted=st.sampled_from(QUOTED))
@BOUNDED
def test_csv_writers_output_is_read_cell_for_cell(rows: Pairs, delimiter: str, quoted: Any) -> None:
    quoting, end = quoted
    text = csv_of(rows, delimiter, quoting=quoting, lineterminator=end)
    strict = [tuple(row) for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)]
    assert strict[1:] == rows
    found, came = imported(text.encode(), "rows.csv")
    assert came == usable(rows)
    assert not found or found.records == len(rows)


@given(
    rows=ROWS, form=st.sampled_from(["lines", "array", "indented", "data", "joined", "arrays"]), ascii_=st.booleans()
)
@BOUNDED
def test_json_of_every_layout_is_read_unchanged(rows: Pairs, form: str, ascii_: bool) -> None:
    records = [{"prompt": p, "response": r} for p, r in rows]
    text = {
        "lines": lambda: lines_of(rows, ensure_ascii=ascii_),
        "array": lambda: json.dumps(records, ensure_ascii=ascii_),
        "indented": lambda: json.dumps(records, ensure_ascii=ascii_, indent=1),
        "data": lambda: json.dumps({"version": 1, "data": records}, ensure_ascii=ascii_),
        "joined": lambda: "".join(json.dumps(record, ensure_ascii=ascii_, indent=2) for record in records),
        "arrays": lambda: "".join(json.dumps([record], ensure_ascii=ascii_) + "\n" for record in records),
    }[form]()
    found, came = imported(text.encode(), "rows.json")
    assert came == usable(rows)
    assert not found or found.records == len(rows)


@given(rows=FEW, data=st.data())
@BOUNDED
def test_a_damaged_json_line_costs_only_itself(rows: Pairs, data: st.DataObject) -> None:
    lines = lines_of(rows).encode().splitlines(keepends=True)
    hurt = data.draw(st.integers(0, len(lines) - 1))
    place = data.draw(st.integers(0, len(lines[hurt]) - 2))
    byte = data.draw(st.sampled_from([b"", b'"', b"{", b"}", b"[", b"]", b"\\", b"\xff", b"\0", b","]))
    lines[hurt] = lines[hurt][:place] + byte + lines[hurt][place + (not byte) :]
    _, came = imported(b"".join(lines), "rows.jsonl")
    sound = usable([row for number, row in enumerate(rows) if number != hurt])
    assert not Counter(sound) - Counter(came)


@pytest.mark.parametrize("indent", [None, 0, 2])
@given(rows=st.lists(st.tuples(PLAIN, PLAIN), min_size=1, max_size=8), data=st.data())
@BOUNDED
def test_a_damaged_array_record_costs_only_itself(rows: Pairs, indent: int | None, data: st.DataObject) -> None:
    parts = [json.dumps({"prompt": p, "response": r}, indent=indent) for p, r in rows]
    hurt = data.draw(st.integers(0, len(parts) - 1))
    place = data.draw(st.integers(1, len(parts[hurt]) - 2))
    byte = data.draw(st.sampled_from(["", '"', "x", "\\", ":"]))
    parts[hurt] = parts[hurt][:place] + byte + parts[hurt][place + (not byte) :]
    _, came = imported(("[\n" + ",\n".join(parts) + "\n]").encode(), "rows.json")
    sound = usable([row for number, row in enumerate(rows) if number != hurt])
    assert not Counter(sound) - Counter(came)


@pytest.mark.parametrize("delimiter", [",", "\t"])
@given(rows=st.lists(st.tuples(PLAIN, PLAIN), min_size=1, max_size=30), data=st.data())
@BOUNDED
def test_a_stray_quote_swallows_no_line(rows: Pairs, delimiter: str, data: st.DataObject) -> None:
    lines = csv_of(rows, delimiter).splitlines(keepends=True)
    hurt = data.draw(st.integers(1, len(lines) - 1))
    place = data.draw(st.integers(0, len(lines[hurt].rstrip())))
    lines[hurt] = lines[hurt][:place] + '"' + lines[hurt][place:]
    _, came = imported("".join(lines).encode(), "rows.csv")
    sound = usable([row for number, row in enumerate(rows, 1) if number != hurt])
    assert not Counter(sound) - Counter(came)


@given(rows=FEW, data=st.data(), form=st.sampled_from(["csv", "tsv", "jsonl", "json"]))
@BOUNDED
def test_the_counts_add_up_for_any_damaged_file(rows: Pairs, data: st.DataObject, form: str) -> None:
    text = {
        "csv": lambda: csv_of(rows, ","), "tsv": lambda: csv_of(rows, "\t"), "jsonl": lambda: lines_of(rows),
        "json": lambda: json.dumps([{"prompt": p, "response": r} for p, r in rows], indent=1),
    }[form]()  # fmt: skip
    content = bytearray(text.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content)))
        if data.draw(st.booleans()):
            content[place : place + 1] = b""
        else:
            content[place:place] = bytes([data.draw(st.integers(0, 255))])
    imported(bytes(content), f"rows.{form}")
