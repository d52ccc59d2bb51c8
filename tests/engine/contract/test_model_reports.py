"""The reports on models that were made."""

import pytest

from engine.contract.bounds import as_json, read_as
from engine.contract.model_reports import FetchedReport

REPORT = FetchedReport("me/tiny", "huggingface", "https://hub", "abc", "models/tiny", 3, 100, 40, {"code": 1}, "mit")


def test_a_report_crosses_processes_unchanged() -> None:
    assert read_as(FetchedReport, as_json(REPORT)) == REPORT


@pytest.mark.parametrize("change", [{"bytes": -1}, {"licence": "x" * 101}, {"left_out": {"code": -1}}, {"id": 3}])
def test_a_report_out_of_bounds_is_not_read(change: dict[str, object]) -> None:
    with pytest.raises((TypeError, ValueError)):
        read_as(FetchedReport, {**as_json(REPORT), **change})
