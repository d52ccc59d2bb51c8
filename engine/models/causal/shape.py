"""The shape of a causal model by its config.json, and the tensors of the usual classes by it; without torch.

`parsed` is transformers' configuration, which fills in what a config.json leaves out.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from engine.models.weightfile import Tensor, Tensors

Shapes = dict[str, tuple[int, ...]]

HEAD = "lm_head.weight"
BASES = ("model.", "transformer.")  # what a model with a head puts before the names of all other weights
LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?)\.(\d+)\.")
EMBEDDINGS = re.compile(r"(?:^|\.)(?:embed\w*|w[tp]e|word_embeddings\w*|tok\w*emb\w*)\.")
HEADS = re.compile(r"^(?:lm_head|embed_out|output_layer|output)\.")
# Masks and rotations that older versions of transformers saved with the weights, which are not parameters.
BUFFERS = re.compile(r"(?:^|\.)(?:(?:attn|attention)\.(?:bias|masked_bias)|rotary_emb\.inv_freq|position_ids)$")


def declared(parsed: Any, name: str) -> Any:
    """A setting, if the model's class has it: configurations keep any other that a config.json names, unread."""
    return getattr(parsed, name, None) if hasattr(type(parsed), name) else None


def head_width(parsed: Any) -> int:
    """The width of an attention head."""
    return int(getattr(parsed, "head_dim", None) or parsed.hidden_size // parsed.num_attention_heads)


def kv_heads(parsed: Any) -> int:
    """The number of heads of keys and values."""
    return int(getattr(parsed, "num_key_value_heads", None) or parsed.num_attention_heads)


def hidden_width(parsed: Any) -> int:
    """The width of the hidden layer of a feed-forward."""
    said = (getattr(parsed, name, None) for name in ("intermediate_size", "ffn_dim", "n_inner"))
    return int(next(filter(None, said), 4 * parsed.hidden_size))


def part_of(name: str) -> str:
    """The part of the model, as `--freeze` names it, that a tensor belongs to: embeddings, layers.0 …, norm, head."""
    if found := LAYER.search(name):
        return f"layers.{found[1]}"
    if HEADS.search(name):
        return "head"
    return "embeddings" if EMBEDDINGS.search(name) else "norm"


def is_linear(name: str) -> bool:
    """Whether a matrix is that of a linear layer other than the head: in the usual classes, every one in a layer."""
    return LAYER.search(name) is not None


def own_names(tensors: Iterable[str]) -> dict[str, str]:
    """The names of a model's tensors by these names without the prefix of the model that has no head."""
    found = {}
    for name in tensors:
        base = next((base for base in BASES if name.startswith(base)), "")
        found[name.removeprefix(base)] = name
    return found


def is_known(model_type: object) -> bool:
    """Whether the names and shapes of the tensors of such a model are known here."""
    return model_type in KNOWN


def tensors_of(parsed: Any) -> Tensors:
    """The tensors of a model of a known class, without the prefix of the model that has no head."""
    first, layer, last, at = KNOWN[parsed.model_type]
    found = first(parsed)
    for number in range(parsed.num_hidden_layers):
        found |= {f"{at}.{number}.{name}": shape for name, shape in layer(parsed).items()}
    found |= last(parsed)
    if not parsed.tie_word_embeddings:
        found[HEAD] = (parsed.vocab_size, parsed.hidden_size)
    return {name: Tensor("F32", shape, name) for name, shape in found.items()}


def _linear(name: str, outputs: int, inputs: int, *, bias: bool = False) -> Shapes:
    return {f"{name}.weight": (outputs, inputs)} | ({f"{name}.bias": (outputs,)} if bias else {})


def _norms(parsed: Any, *names: str, bias: bool = False) -> Shapes:
    kinds = ("weight", "bias") if bias else ("weight",)
    return {f"{name}.{kind}": (parsed.hidden_size,) for name in names for kind in kinds}


def _projections(parsed: Any, out: str, *, bias: bool, out_bias: bool) -> Shapes:
    width, own = parsed.hidden_size, head_width(parsed)
    asked, kept = parsed.num_attention_heads * own, kv_heads(parsed) * own
    found: Shapes = {}
    for name, outputs in (("q_proj", asked), ("k_proj", kept), ("v_proj", kept)):
        found |= _linear(f"self_attn.{name}", outputs, width, bias=bias)
    return found | _linear(f"self_attn.{out}", width, asked, bias=out_bias)


def _llama_layer(parsed: Any) -> Shapes:
    kind, width, hidden = parsed.model_type, parsed.hidden_size, hidden_width(parsed)
    biased = bool(declared(parsed, "attention_bias"))
    found = _projections(parsed, "o_proj", bias=biased or kind == "qwen2", out_bias=biased)
    for name, outputs, inputs in (
        ("gate_proj", hidden, width), ("up_proj", hidden, width), ("down_proj", width, hidden),
    ):  # fmt: skip
        found |= _linear(f"mlp.{name}", outputs, inputs, bias=bool(declared(parsed, "mlp_bias")))
    found |= _norms(parsed, "input_layernorm", "post_attention_layernorm")
    if kind in ("gemma2", "gemma3_text"):
        found |= _norms(parsed, "pre_feedforward_layernorm", "post_feedforward_layernorm")
    if kind in ("qwen3", "gemma3_text"):
        found |= {f"self_attn.{name}.weight": (head_width(parsed),) for name in ("q_norm", "k_norm")}
    return found


def _phi_layer(parsed: Any) -> Shapes:
    found = _projections(parsed, "dense", bias=True, out_bias=True)
    found |= _linear("mlp.fc1", hidden_width(parsed), parsed.hidden_size, bias=True)
    found |= _linear("mlp.fc2", parsed.hidden_size, hidden_width(parsed), bias=True)
    if parsed.qk_layernorm:
        names = (f"self_attn.{name}_layernorm.{kind}" for name in "qk" for kind in ("weight", "bias"))
        found |= {name: (head_width(parsed),) for name in names}
    return found | _norms(parsed, "input_layernorm", bias=True)


def _phi3_layer(parsed: Any) -> Shapes:
    width, own = parsed.hidden_size, head_width(parsed)
    asked = parsed.num_attention_heads * own
    return {
        **_linear("self_attn.qkv_proj", asked + 2 * kv_heads(parsed) * own, width),
        **_linear("self_attn.o_proj", width, asked),
        **_linear("mlp.gate_up_proj", 2 * hidden_width(parsed), width),
        **_linear("mlp.down_proj", width, hidden_width(parsed)),
        **_norms(parsed, "input_layernorm", "post_attention_layernorm"),
    }


def _gpt2_layer(parsed: Any) -> Shapes:
    """Its linear layers store inputs × outputs."""
    width, hidden = parsed.hidden_size, hidden_width(parsed)
    found = _norms(parsed, "ln_1", "ln_2", bias=True)
    for name, inputs, outputs in (
        ("attn.c_attn", width, 3 * width), ("attn.c_proj", width, width),
        ("mlp.c_fc", width, hidden), ("mlp.c_proj", hidden, width),
    ):  # fmt: skip
        found |= {f"{name}.weight": (inputs, outputs), f"{name}.bias": (outputs,)}
    return found


def _embedded(parsed: Any) -> Shapes:
    return {"embed_tokens.weight": (parsed.vocab_size, parsed.hidden_size)}


def _gpt2_embedded(parsed: Any) -> Shapes:
    width = parsed.hidden_size
    return {"wte.weight": (parsed.vocab_size, width), "wpe.weight": (parsed.max_position_embeddings, width)}


def _phi_last(parsed: Any) -> Shapes:
    return {**_norms(parsed, "final_layernorm", bias=True), "lm_head.bias": (parsed.vocab_size,)}


Piece = Callable[[Any], Shapes]
_LLAMA: tuple[Piece, Piece, Piece, str] = (_embedded, _llama_layer, lambda parsed: _norms(parsed, "norm"), "layers")
# By `model_type`: what comes before the layers, a layer, what comes after them, and the name of their list.
KNOWN: Mapping[str, tuple[Piece, Piece, Piece, str]] = {
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "smollm3"), _LLAMA),
    "phi": (_embedded, _phi_layer, _phi_last, "layers"),
    "phi3": (_embedded, _phi3_layer, lambda parsed: _norms(parsed, "norm"), "layers"),
    "gpt2": (_gpt2_embedded, _gpt2_layer, lambda parsed: _norms(parsed, "ln_f", bias=True), "h"),
}
