"""What an import reports: read back from its JSON, and refused where a value cannot be."""

import json
from typing import Any

import pytest

from engine.contract.bounds import as_json, read_as
from engine.contract.import_report import PARTS, FileReport, ImportReport, ReasonCount, ReasonDetail

REASON = ReasonCount(2, "a.csv:3", (ReasonDetail("tool", 2, ("a.csv:3", "a.csv:9")),))
REPORT = ImportReport(
    records=7,
    used=5,
    refused={"unknown_role": REASON},
    shapes={"prompt/response": 5},
    files=(FileReport("a.csv", "csv", "gb18030", columns=("问", "答"), records=7, used=5, refused=2),),
    preview=(("你好", "你好！"),),
    train_rows=4,
    valid_rows=1,
    train="t.parquet",
    valid="v.parquet",
)


def test_a_report_is_read_back_from_its_json() -> None:
    assert read_as(ImportReport, json.loads(json.dumps(as_json(REPORT)))) == REPORT


def test_files_and_their_rows_are_found_by_part() -> None:
    assert [(REPORT.file(part), REPORT.rows_of(part)) for part in PARTS] == [
        ("t.parquet", 4),
        ("v.parquet", 1),
        ("", 0),
    ]


def test_a_folder_of_very_many_files_is_reported() -> None:
    many = as_json(ImportReport(files=(FileReport("a.csv"),) * 100_000))

    assert len(read_as(ImportReport, many).files) == 100_000


@pytest.mark.parametrize(
    "change",
    [
        {"records": -1},
        {"records": "7"},
        {"used": float("nan")},
        {"train": "a\0b"},
        {"train_rows": 10**400},
        {"files": {}},
        {"files": [{"records": 7}]},
        {"refused": {"unknown_role": {"count": 2}}},
        {"refused": {"unknown_role": {**as_json(REASON), "details": [[]]}}},
        {"preview": [["a", 5]]},
    ],
    ids=lambda change: repr(change)[:60],
)
def test_a_report_with_an_impossible_value_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError)):
        read_as(ImportReport, {**as_json(REPORT), **change})
