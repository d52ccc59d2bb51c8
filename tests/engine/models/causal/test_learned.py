import numpy as np
import pytest

from engine.data.token_store import Row
from engine.models.causal.learned import counts_of, places_of, targets_of

ROWS = [Row(np.arange(10, 16), ((2, 4), (5, 6))), Row(np.arange(20, 23), ((1, 3),))]


def test_each_learned_token_is_predicted_from_the_one_before_it() -> None:
    whole = np.concatenate([row.ids for row in ROWS])
    assert targets_of(ROWS).tolist() == [12, 13, 15, 21, 22]
    assert whole[places_of(ROWS, [0, 6]).numpy()].tolist() == [11, 12, 14, 20, 21]
    assert counts_of(ROWS) == [3, 2]


def test_a_first_token_cannot_be_learned() -> None:
    with pytest.raises(ValueError, match="first token"):
        places_of([Row(np.arange(3), ((0, 2),))], [0])
