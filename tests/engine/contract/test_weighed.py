"""What is answered on the tokens of a row."""

import pytest

from engine.contract.bounds import as_json, read_as
from engine.contract.weighed import WeighedRow


def test_each_learned_token_has_its_loss() -> None:
    found = WeighedRow(3, ("a", "b", "c", "d", "e"), ((1, 2), (3, 5)), (0.5, 1.5, 2.5), "best", 12)
    assert found.token_losses() == [("a", None), ("b", 0.5), ("c", None), ("d", 1.5), ("e", 2.5)]
    assert read_as(WeighedRow, as_json(found)) == found


@pytest.mark.parametrize("losses", [(), (1.0,), (1.0, 2.0, 3.0)])
def test_an_answer_with_another_number_of_losses_is_refused(losses: tuple[float, ...]) -> None:
    values = {"sample": 1, "texts": ["a", "b"], "learned": [[0, 2]], "losses": list(losses), "origin": "base"}
    with pytest.raises(ValueError, match="loss"):
        read_as(WeighedRow, values)
