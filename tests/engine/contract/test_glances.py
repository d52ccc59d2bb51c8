"""What a glance says, as it is read from another process."""

import pytest

from engine.contract.bounds import as_json, read_as
from engine.contract.glances import DataGlance, ModelGlance

DATA = DataGlance("jsonl", 200, True, form="messages", shape="messages", columns=("messages",), script="Latin")
MODEL = ModelGlance("small", "llama", "causal", 134_515_008, "bf16", 269_000_000, True, True)


@pytest.mark.parametrize("glance", [DATA, MODEL])
def test_a_glance_is_read_as_it_was_sent(glance: DataGlance | ModelGlance) -> None:
    assert read_as(type(glance), as_json(glance)) == glance


@pytest.mark.parametrize("wrong", [{"rows": -1}, {"form": "images"}, {"columns": ["x" * 201]}, {"columns": ["x"] * 51}])
def test_a_value_out_of_bounds_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises((TypeError, ValueError)):
        read_as(DataGlance, {**as_json(DATA), **wrong})
