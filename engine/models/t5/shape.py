"""The shape of a T5: the names and the shapes of its tensors, by its settings; without torch."""

from collections.abc import Mapping
from typing import Any

from engine.models.sizes import BUCKETS, DEFAULT_BUCKETS
from engine.models.weightfile import Tensor, Tensors

MODEL_TYPES = ("t5", "mt5")
# In every T5; they identify a T5 among other families, and the prefix that a program put before its names.
NAMES = {
    "shared.weight", "encoder.final_layer_norm.weight", "decoder.final_layer_norm.weight",
    "encoder.block.0.layer.0.SelfAttention.q.weight", "decoder.block.0.layer.1.EncDecAttention.q.weight",
}  # fmt: skip
SHARED, HEAD = "shared.weight", "lm_head.weight"
STACKS = ("encoder", "decoder")
EMBEDDED = tuple(f"{stack}.embed_tokens.weight" for stack in STACKS)  # other names of the embeddings
GATE, GATED = "encoder.block.0.layer.1.DenseReluDense.wi_0.weight", "gated-gelu"  # of T5 1.1, mT5 and Flan
LINEAR = ("q", "k", "v", "o", "wi", "wi_0", "wi_1", "wo")  # the last names of linear layers but the head
SIZES = ("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads")


def tensors_of(settings: Mapping[str, Any]) -> Tensors:
    """The tensors of a T5 with such a config.json, shared ones under one name."""
    d, heads, ff = (int(settings[name]) for name in ("d_model", "num_heads", "d_ff"))
    inner, vocabulary = heads * int(settings["d_kv"]), int(settings["vocab_size"])
    found: dict[str, tuple[int, ...]] = {SHARED: (vocabulary, d)}
    buckets = int(settings.get(BUCKETS, DEFAULT_BUCKETS))
    for stack in STACKS:
        attentions = ["SelfAttention"] + (["EncDecAttention"] if stack == "decoder" else [])
        for block in range(layers(settings, stack)):
            for place, attention in enumerate(attentions):
                at = f"{stack}.block.{block}.layer.{place}"
                found |= {f"{at}.{attention}.{name}.weight": (inner, d) for name in "qkv"}
                found |= {f"{at}.{attention}.o.weight": (d, inner), f"{at}.layer_norm.weight": (d,)}
            at = f"{stack}.block.{block}.layer.{len(attentions)}"
            wide = ("wi_0", "wi_1") if gated(settings) else ("wi",)
            found |= {f"{at}.DenseReluDense.{name}.weight": (ff, d) for name in wide}
            found |= {f"{at}.DenseReluDense.wo.weight": (d, ff), f"{at}.layer_norm.weight": (d,)}
        found[f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"] = (buckets, heads)
        found[f"{stack}.final_layer_norm.weight"] = (d,)
    if not tied(settings):
        found[HEAD] = (vocabulary, d)
    return {name: Tensor("F32", shape, name) for name, shape in found.items()}


def layers(settings: Mapping[str, Any], stack: str) -> int:
    """The number of layers of the encoder or the decoder."""
    number = settings.get("num_decoder_layers") if stack == "decoder" else None
    return int(number or settings["num_layers"])


def gated(settings: Mapping[str, Any]) -> bool:
    """Whether its feed-forward layers have gates."""
    return "gated" in str(settings.get("feed_forward_proj", "relu"))


def tied(settings: Mapping[str, Any]) -> bool:
    """Whether its head is its embeddings."""
    return bool(settings.get("tie_word_embeddings", True))


def settings_of(tensors: Tensors) -> dict[str, int]:
    """The settings that define the shape of a T5 with these tensors; empty if they are not a T5's."""
    first = "encoder.block.0.layer"
    try:
        heads = tensors[f"{first}.0.SelfAttention.relative_attention_bias.weight"].shape[1]
        inner = tensors[f"{first}.0.SelfAttention.q.weight"].shape[0]
        found = {
            stack: 1 + max(int(name.split(".")[2]) for name in tensors if name.startswith(f"{stack}.block."))
            for stack in STACKS
        }
        return {
            "d_model": tensors[SHARED].shape[1],
            "d_kv": inner // heads,
            "d_ff": tensors[GATE if GATE in tensors else f"{first}.1.DenseReluDense.wi.weight"].shape[0],
            "num_heads": heads,
            "num_layers": found["encoder"],
            "num_decoder_layers": found["decoder"],
        }
    except (LookupError, ValueError, ZeroDivisionError):
        return {}


def is_linear(name: str) -> bool:
    """Whether a matrix is that of a linear layer other than the head."""
    return part_of(name) in STACKS and "relative_attention_bias" not in name


def part_of(name: str) -> str:
    """The part of the model that a tensor belongs to, as `--freeze` names it."""
    if name in (SHARED, *EMBEDDED):
        return "embeddings"
    return name.partition(".")[0]
