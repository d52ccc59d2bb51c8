"""The tensors that a causal model must have are those of transformers' class."""

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from engine.models.causal import shape
from tests.engine.models.causal.small import configuration

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((known, {}) for known in shape.KNOWN),
    ("llama", {"attention_bias": True, "mlp_bias": True, "head_dim": 8}),
    ("llama", {"tie_word_embeddings": True, "num_key_value_heads": 4}),
    ("qwen2", {"tie_word_embeddings": True}),
    ("qwen2", {"attention_bias": True, "mlp_bias": True}),  # which its class does not read
    ("mistral", {"attention_bias": True}),
    ("qwen3", {"attention_bias": True, "head_dim": 6}),
    ("gemma", {"attention_bias": True, "head_dim": 3}),
    ("gemma3_text", {"attention_bias": True, "head_dim": 8}),
    ("smollm3", {"attention_bias": True, "mlp_bias": True}),
    ("phi", {"qk_layernorm": True, "tie_word_embeddings": True}),
    ("gpt2", {"n_inner": 20, "tie_word_embeddings": False}),
]


@pytest.mark.parametrize(("kind", "more"), VARIANTS, ids=str)
def test_tensors_are_those_of_transformers_class(kind: str, more: dict[str, Any]) -> None:
    parsed = configuration(kind, **more)
    with torch.device("meta"):
        net = AutoModelForCausalLM.from_config(parsed)
    wanted = {name: tuple(parameter.shape) for name, parameter in net.named_parameters()}
    theirs = {own: wanted[name] for own, name in shape.own_names(wanted).items()}
    assert {name: tensor.shape for name, tensor in shape.tensors_of(parsed).items()} == theirs


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("model.layers.11.mlp.gate_proj.weight", "layers.11"),
        ("transformer.h.3.attn.c_attn.bias", "layers.3"),
        ("gpt_neox.layers.0.attention.dense.weight", "layers.0"),
        ("model.decoder.layers.2.fc1.weight", "layers.2"),
        ("transformer.blocks.7.norm_1.weight", "layers.7"),
        ("model.embed_tokens.weight", "embeddings"),
        ("transformer.wpe.weight", "embeddings"),
        ("gpt_neox.embed_in.weight", "embeddings"),
        ("model.decoder.embed_positions.weight", "embeddings"),
        ("transformer.word_embeddings_layernorm.weight", "embeddings"),
        ("lm_head.weight", "head"),
        ("embed_out.weight", "head"),
        ("model.norm.weight", "norm"),
        ("transformer.ln_f.bias", "norm"),
        ("model.decoder.final_layer_norm.weight", "norm"),
    ],
)
def test_a_tensor_belongs_to_the_part_that_people_name(name: str, part: str) -> None:
    assert shape.part_of(name) == part


@pytest.mark.parametrize(
    ("name", "buffer"),
    [
        ("h.0.attn.bias", True),
        ("transformer.h.0.attn.masked_bias", True),
        ("gpt_neox.layers.1.attention.bias", True),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", True),
        ("h.0.attn.c_attn.bias", False),
        ("model.layers.0.self_attn.q_proj.bias", False),
    ],
)
def test_saved_masks_and_rotations_are_no_parameters(name: str, buffer: bool) -> None:
    assert bool(shape.BUFFERS.search(name)) is buffer
