"""Special tokens of a configuration, whatever values stand there."""

from typing import Any

import pytest

from engine.contract.bounds import as_json, read_as
from engine.contract.facts import SpecialTokens
from engine.models.special_tokens import special_tokens


def of(**values: Any) -> SpecialTokens:
    return special_tokens(values.get, ("pad",))


def test_one_end_token_or_a_list_of_them() -> None:
    assert of(pad_token_id=0, eos_token_id=1, decoder_start_token_id=0) == SpecialTokens(0, (1,), 0, ("pad",))
    assert of(eos_token_id=[1, 2]).eos == (1, 2)
    assert of() == SpecialTokens(needed=("pad",))


@pytest.mark.parametrize("value", ["<pad>", 1.5, True, {"id": 3}, 2**70, "x" * 10_000, float("nan")])
def test_a_value_that_is_no_number_can_still_be_reported(value: Any) -> None:
    facts = of(pad_token_id=value, eos_token_id=[value, None, 1])
    assert isinstance(facts.pad, str)
    assert facts.eos[-1] == 1
    assert read_as(SpecialTokens, as_json(facts)) == facts
