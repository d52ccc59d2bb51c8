"""The table of a T5's tensors: what transformers' models have, and back to their settings."""

from typing import Any

import pytest

from engine.models.t5 import shape
from engine.models.weightfile import Tensor
from tests.engine.models.small import SHAPE, small_t5

KINDS: list[dict[str, Any]] = [
    {},
    {"feed_forward_proj": "gated-gelu"},
    {"num_decoder_layers": 3},
    {"tie_word_embeddings": False},
    {"num_layers": 1, "d_kv": 5, "relative_attention_num_buckets": 12},
]


@pytest.mark.parametrize("more", KINDS, ids=str)
def test_tensors_are_those_of_the_model(more: dict[str, Any]) -> None:
    net = small_t5(**more)
    expected = {name: tuple(parameter.shape) for name, parameter in net.named_parameters()}
    assert {name: tensor.shape for name, tensor in shape.tensors_of(net.config.to_dict()).items()} == expected


@pytest.mark.parametrize("more", KINDS, ids=str)
def test_settings_are_found_by_the_tensors(more: dict[str, Any]) -> None:
    settings = {"num_decoder_layers": SHAPE["num_layers"], **SHAPE, **more}
    found = shape.settings_of(shape.tensors_of(settings))
    assert found == {name: settings[name] for name in found}
    assert len(found) == 6


@pytest.mark.parametrize("name", ["shared.weight", "encoder.block.0.layer.0.SelfAttention.q.weight"])
def test_tensors_of_something_else_have_no_settings(name: str) -> None:
    tensors = shape.tensors_of(SHAPE)
    assert shape.settings_of({name: tensor for name, tensor in tensors.items() if name != "shared.weight"}) == {}
    assert shape.settings_of({**tensors, name: Tensor("F32", (), name)}) == {}
