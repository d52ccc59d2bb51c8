"""Useful floating-point operations of a chat model: products with weights, of tokens that are not padding.

No gradient of frozen weights, no scores of attention, and no logits of tokens that are not learned.
"""

import json
from pathlib import Path

RANK = 16  # of adapters


def flops_of_token(model: Path, *, lora: bool) -> tuple[int, int]:
    """FLOPs of a step for each token, and what each learned one adds, of a model of Llama's kind.

    A product is 2 forward, 2 for the gradient of its input, and 2 for that of its weight if it learns.
    """
    config = json.loads((model / "config.json").read_text())
    width, inner = config["hidden_size"], config["intermediate_size"]
    head = config.get("head_dim") or width // config["num_attention_heads"]
    queries, keys = head * config["num_attention_heads"], head * config["num_key_value_heads"]
    shapes = [(width, queries), (width, keys), (width, keys), (queries, width)]
    shapes += [(width, inner), (width, inner), (inner, width)]
    layers = config["num_hidden_layers"]
    weights = layers * sum(a * b for a, b in shapes)
    adapters = layers * sum(RANK * (a + b) for a, b in shapes)
    logits = config["vocab_size"] * width
    return (4 * weights + 6 * adapters, 4 * logits) if lora else (6 * weights, 6 * logits)
