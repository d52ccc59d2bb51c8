import numpy as np
import pytest
import torch

from engine.data.token_store import Row
from engine.models.causal.learned import counts_of, kept_columns, places_of, targets_of

ROWS = [Row(np.arange(10, 16), ((2, 4), (5, 6))), Row(np.arange(20, 23), ((1, 3),))]


def test_each_learned_token_is_predicted_from_the_one_before_it() -> None:
    whole = np.concatenate([row.ids for row in ROWS])
    assert targets_of(ROWS).tolist() == [12, 13, 15, 21, 22]
    assert whole[places_of(ROWS, [0, 6]).numpy()].tolist() == [11, 12, 14, 20, 21]
    assert counts_of(ROWS) == [3, 2]


def test_a_first_token_cannot_be_learned() -> None:
    with pytest.raises(ValueError, match="first token"):
        places_of([Row(np.arange(3), ((0, 2),))], [0])


def test_columns_that_need_logits_are_each_kept_once() -> None:
    places = places_of(ROWS, [0, 6])  # of two rows that are 6 wide
    assert places.tolist() == [1, 2, 4, 6, 7]
    columns, within = kept_columns(places, 6)
    assert columns.tolist() == [0, 1, 2, 4]
    whole = torch.arange(12).view(2, 6)
    assert whole[:, columns].flatten()[within].tolist() == places.tolist()
