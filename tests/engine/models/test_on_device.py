"""A model on its device: how it is computed there, and what is reported of it."""

from typing import Any

import pytest
import torch

from engine.contract import processor
from engine.contract.config import RunConfig
from engine.models.on_device import OnDevice, on_device
from engine.models.seq2seq.padded import PaddedNetwork
from engine.models.t5.packed import PackedT5
from tests.engine.models.small import small_t5
from tests.engine.models.test_network import capped


def placed(net: Any, precision: str = "fp32", device: str = "cpu") -> OnDevice:
    return on_device(net, RunConfig(mixed_precision=precision), torch.device(device))


def test_nothing_is_reported_of_a_model_that_is_computed_as_asked() -> None:
    found = placed(small_t5())
    assert isinstance(found.network, PackedT5)
    assert (found.precision, found.fallback, found.head_missing) == ("fp32", None, None)


def test_a_head_that_cannot_be_computed_in_chunks_is_reported() -> None:
    found = placed(capped(small_t5()))
    assert isinstance(found.network, PaddedNetwork)
    assert found.head_missing is not None
    assert "T5ForConditionalGeneration" in found.head_missing.text()


@pytest.mark.parametrize(("flag", "precision"), [("avx512_bf16", "bf16"), ("avx2", "fp32")])
def test_bf16_that_is_not_possible_is_reported(monkeypatch: pytest.MonkeyPatch, flag: str, precision: str) -> None:
    monkeypatch.setattr(processor, "flags", lambda: {flag})
    found = placed(small_t5(), "bf16")
    assert found.precision == precision
    assert (found.fallback is None) == (precision == "bf16")


def test_a_model_is_moved_to_its_device() -> None:
    found = placed(small_t5(), device="meta")
    assert isinstance(found.network, PaddedNetwork)
    assert {parameter.device.type for parameter in found.network.model.parameters()} == {"meta"}
