"""Rows of a run as it learned them, or the sentence that they are no longer there."""

from typing import Any

import pytest

from engine.contract import config as settings
from engine.contract.messages import InputError
from engine.contract.requests import WantedRow
from engine.weighing.trained_rows import TrainedRows


@pytest.fixture
def rows(tiny_settings: dict[str, Any]) -> TrainedRows:
    return TrainedRows.of(settings.from_json(tiny_settings))


def test_a_row_begins_with_its_own_texts(rows: TrainedRows) -> None:
    number = rows.store.row_number(6)
    found = rows.beginning(WantedRow(6, number, len(rows.store.label(6))))
    row = rows.store.row(6)
    assert found.given + found.learned == "".join(rows.texts(row))
    assert len(rows.texts(row)) == len(row.ids)


@pytest.mark.parametrize("wanted", [WantedRow(6, 7, 1), WantedRow(6, 6, 9999), WantedRow(10**6, 6, 3)])
def test_another_row_in_its_place_is_not_shown(rows: TrainedRows, wanted: WantedRow) -> None:
    assert rows.beginning(wanted).changed
    with pytest.raises(InputError, match="no longer what the run was trained on"):
        rows.row(wanted)
