"""Limits on the sizes and rates in a model's configuration, checked before anything is built from it."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.contract.messages import InputError
from engine.contract.texts import Argument
from engine.models.weightfile import bad

MOST_LAYERS, WIDEST = 512, 1 << 24  # beyond any model that could be trained here, and small enough for the arithmetic
MOST_LABELS = 1 << 16
COUNTS = ("num_", "d_", "vocab", "hidden", "encoder_", "decoder_", "rel")  # prefixes of the names of counts
AT_LEAST_ONE = {
    "d_model", "d_kv", "d_ff", "num_heads", "num_layers", "num_decoder_layers", "num_encoder_layers", "vocab_size",
    "hidden_size", "encoder_layers", "decoder_layers", "encoder_attention_heads", "decoder_attention_heads",
    "num_encoder_attention_heads", "num_decoder_attention_heads", "encoder_ffn_dim", "decoder_ffn_dim",
    "max_position_embeddings", "max_encoder_position_embeddings", "max_decoder_position_embeddings",
}  # fmt: skip
RATES = ("dropout", "layerdrop", "pdrop")  # parts of the names of rates
EPSILONS = {"layer_norm_epsilon", "layer_norm_eps", "layernorm_epsilon", "rms_norm_eps"}
BUCKETS, DISTANCE = "relative_attention_num_buckets", "relative_attention_max_distance"
DEFAULT_BUCKETS, DEFAULT_DISTANCE = 32, 128  # if a configuration does not set them


def check_sizes(path: Path, settings: Mapping[str, Any]) -> None:
    """Raises InputError for a size or a rate that is not valid for any model."""
    for name, value in settings.items():
        if isinstance(value, int) and not isinstance(value, bool):
            _check_count(path, name, value)
        if name in AT_LEAST_ONE and value is not None and not (_is_whole(value) and value >= 1):
            raise _wrong(path, name, value, "count")
        rate = any(part in name for part in RATES) and value is not None and not isinstance(value, bool | dict | list)
        if rate and not (_is_number(value) and 0 <= value < 1):
            raise _wrong(path, name, value, "rate")
        if name in EPSILONS and not (_is_number(value) and 0 < value < 1):
            raise _wrong(path, name, value, "epsilon")
    _check_buckets(path, settings)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _wrong(path: Path, name: str, value: Any, rule: str, /, **args: Argument) -> InputError:
    return bad(path, f"size_not_{rule}", name=name, value=repr(value)[:40], **args)


def _check_count(path: Path, name: str, value: int) -> None:
    most = MOST_LAYERS if "layers" in name and not name.startswith("max_") else WIDEST
    if name.startswith(COUNTS) and value > most:
        raise bad(path, "size_above", name=name, value=f"{value:,}", most=f"{most:,}")
    if (name in ("num_labels", "max_length") and value > WIDEST) or (name == "num_labels" and value > MOST_LABELS):
        raise bad(path, "size_bad", name=name, value=f"{value:,}")


def _check_buckets(path: Path, settings: Mapping[str, Any]) -> None:
    """Long distances share buckets by the logarithm of distance ÷ half the buckets, which must be above 0."""
    if BUCKETS not in settings and DISTANCE not in settings:
        return
    buckets, distance = settings.get(BUCKETS, DEFAULT_BUCKETS), settings.get(DISTANCE, DEFAULT_DISTANCE)
    if not _is_whole(buckets) or buckets < 4:
        raise _wrong(path, BUCKETS, buckets, "buckets")
    if not _is_whole(distance) or distance <= buckets // 2:
        raise _wrong(path, DISTANCE, distance, "distance", buckets=BUCKETS, half=buckets // 2)
