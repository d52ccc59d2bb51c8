"""Sizes and rates that no layer takes are refused by name, and the usual ones are not."""

import math
from pathlib import Path
from typing import Any

import pytest

from engine.contract.messages import InputError
from engine.models.sizes import check_sizes

BAD: list[dict[str, Any]] = [
    {"relative_attention_max_distance": 0},
    {"relative_attention_max_distance": -5},
    {"relative_attention_max_distance": 16},
    {"relative_attention_num_buckets": 0},
    {"relative_attention_num_buckets": 300},
    {"relative_attention_num_buckets": 31.5},
    {"dropout_rate": -3},
    {"dropout": 1.5},
    {"attention_dropout": "0.1"},
    {"encoder_layerdrop": math.nan},
    {"layer_norm_epsilon": math.nan},
    {"layer_norm_epsilon": "NaN"},
    {"layer_norm_eps": -1e9},
    {"layer_norm_epsilon": 0},
    {"d_model": 0},
    {"d_kv": -8},
    {"num_heads": 2.5},
    {"vocab_size": "16000"},
    {"encoder_layers": 0},
    {"max_position_embeddings": 0},
]
GOOD: list[dict[str, Any]] = [
    {"relative_attention_num_buckets": 32, "relative_attention_max_distance": 128, "layer_norm_epsilon": 1e-6},
    {"relative_attention_num_buckets": 8},
    {"dropout": 0, "activation_dropout": 0.0, "classifier_dropout": None, "layerdrop": 0.5, "num_decoder_layers": None},
    {"dropout_rate": 0.1, "d_model": 512, "num_heads": 6, "d_kv": 64, "use_dropout": True},
]


@pytest.mark.parametrize("settings", BAD, ids=str)
def test_an_impossible_value_is_refused_by_name(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError) as refused:
        check_sizes(Path("model"), settings)
    (name,) = settings
    assert "relative_attention" in name or name in refused.value.message.what("en")
    assert refused.value.message.what("zh") != refused.value.message.what("en")


@pytest.mark.parametrize("settings", GOOD, ids=str)
def test_usual_values_are_accepted(settings: dict[str, Any]) -> None:
    check_sizes(Path("model"), settings)
