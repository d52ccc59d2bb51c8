"""Which rows of a store are trained on."""

from typing import Any

import numpy as np
import pytest

from engine.data import batching, selection
from engine.data.selection import Selection
from engine.data.token_store import TokenStore


@pytest.fixture
def rows(stores: dict[str, TokenStore]) -> TokenStore:
    return stores["train_file"]


def test_without_a_list_the_order_of_an_epoch_is_what_it_was(rows: TokenStore) -> None:
    found = Selection.without(rows, ())
    assert (found.count, found.chosen) == (len(rows), None)
    assert np.array_equal(found.samples(1, 0, 3, 11), batching.epoch_samples(1, 0, len(rows), 3, 11))


@pytest.mark.parametrize("at_once", [3, 1000])
def test_rows_that_are_left_out_are_in_no_epoch(rows: TokenStore, monkeypatch: Any, at_once: int) -> None:
    monkeypatch.setattr(selection, "COUNTED_ROWS", at_once)
    gone = {0, 7, 39, 10**9}
    found = Selection.without(rows, gone)
    kept = [sample for sample in range(len(rows)) if rows.row_number(sample) not in gone]
    assert found.count == len(kept)
    for epoch in (0, 1):
        assert sorted(found.samples(5, epoch, 0, found.count).tolist()) == kept


def test_a_list_without_any_row_of_the_file_changes_nothing(rows: TokenStore) -> None:
    assert Selection.without(rows, [10**9]) == Selection(len(rows))
