"""Small models as GGUF files, with the model that they were made from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter, quants
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.convert_slow_tokenizer import bytes_to_unicode

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
WORDS = ["in", "er", "th", "Ġt", "12"]  # the tokens that merges make
MERGES = ["i n", "e r", "t h", "Ġ t", "1 2"]
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TOKENS = [*SPECIAL, *bytes_to_unicode().values(), *WORDS]
NAMES = {
    "model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "post_attention_layernorm": "ffn_norm",
    "input_layernorm": "attn_norm", "model.layers": "blk",
}  # fmt: skip
SHAPE: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 256, "rms_norm_eps": 1e-5,
    "vocab_size": len(TOKENS), "tie_word_embeddings": True,
}  # fmt: skip


def small_llama(**settings: Any) -> Any:
    """A Llama with random weights."""
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**{**SHAPE, "rope_theta": 10_000.0, **settings})).eval()


def write_gguf(
    path: Path,
    net: Any,
    *,
    kind: str = "F32",
    keys: Mapping[str, Any] = {},
    without: Sequence[str] = (),
    more: Mapping[str, Any] = {},
    architecture: str = "llama",
) -> Path:
    """Writes the model as llama.cpp's converter does: matrices of `kind`, norms in F32.

    `keys` are further ones, or replace the usual ones; None leaves one out. `without` are tensors that are left out,
    `more` further ones.
    """
    config = net.config
    usual: dict[str, Any] = {
        "general.type": "model", "general.name": "Tiny", "general.license": "apache-2.0",
        "llama.block_count": config.num_hidden_layers, "llama.context_length": config.max_position_embeddings,
        "llama.embedding_length": config.hidden_size, "llama.feed_forward_length": config.intermediate_size,
        "llama.attention.head_count": config.num_attention_heads,
        "llama.attention.head_count_kv": config.num_key_value_heads, "llama.rope.dimension_count": config.head_dim,
        "llama.rope.freq_base": 10_000.0, "llama.attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "llama.vocab_size": len(TOKENS), "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": TOKENS, "tokenizer.ggml.merges": MERGES,
        "tokenizer.ggml.token_type": [3] * len(SPECIAL) + [1] * (len(TOKENS) - len(SPECIAL)),
        "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.padding_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0, "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": TEMPLATE,
    }  # fmt: skip
    writer = GGUFWriter(path, architecture)
    for key, value in {**usual, **keys}.items():
        if value is not None:
            _add(writer, key, value)
    for name, tensor in net.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        own = _own_name(name)
        if own not in without:
            data = _permuted(name, tensor, config).float().numpy()
            _add_tensor(writer, own, data, kind if data.ndim > 1 else "F32")
    for name, data in more.items():
        _add_tensor(writer, name, np.asarray(data, np.float32), "F32")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add(writer: GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def _add_tensor(writer: GGUFWriter, name: str, data: Any, kind: str) -> None:
    number = GGMLQuantizationType[kind]
    writer.add_tensor(name, quants.quantize(data, number) if kind != "F32" else data, raw_dtype=number)


def _own_name(name: str) -> str:
    for theirs, ours in NAMES.items():
        name = name.replace(theirs, ours)
    return name


def _permuted(name: str, tensor: Any, config: Any) -> Any:
    """llama.cpp interleaves the halves of the rotated dimensions."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    count = next((count for part, count in heads.items() if part in name), 0)
    if not count:
        return tensor
    rows, columns = tensor.shape
    return tensor.reshape(count, 2, rows // count // 2, columns).swapaxes(1, 2).reshape(rows, columns)
