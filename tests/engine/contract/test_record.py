"""What a run was asked to do, as its file says it."""

from typing import Any

import pytest

from engine.contract.bounds import as_json, read_as
from engine.contract.config import to_json
from engine.contract.messages import InputError
from engine.contract.presets import preset
from engine.contract.record import RunRecord

CONFIG = to_json(preset("sft-small").config)
WHOLE = RunRecord(
    "sft-1",
    "sft-small",
    "train",
    CONFIG,
    {"epochs": 3},
    processes=2,
    accepted=["learn_rate"],
    based_on="sft-0",
    id="0" * 32,
)


def test_a_record_is_read_back_from_its_json() -> None:
    assert read_as(RunRecord, as_json(WHOLE)) == WHOLE
    assert WHOLE.run_config() == preset("sft-small").config
    assert str(WHOLE.output.path) == CONFIG["output_dir"]


@pytest.mark.parametrize(
    "change",
    [
        {"config": {}}, {"config": {**CONFIG, "epochs": "3"}}, {"config": None},
        {"processes": -1}, {"processes": 10**9},
        {"id": "../x"}, {"project": "a\0b"}, {"accepted": "learn_rate"}, {"memory_limit": -1}, {"run": 7},
        {"based_on": "x" * 201},
    ],
    ids=lambda change: str(change)[:30],
)  # fmt: skip
def test_a_record_with_an_impossible_value_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        read_as(RunRecord, {**as_json(WHOLE), **change})


def test_a_setting_out_of_range_is_named_when_the_run_needs_it() -> None:
    record = RunRecord("sft-1", "sft-small", "train", {**CONFIG, "epochs": -1})
    with pytest.raises(InputError, match="epochs"):
        record.run_config()
