"""Small models with random weights, of every family that is promised to train."""

from pathlib import Path
from typing import Any

import torch
import transformers

TOKENS = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 1, "decoder_start_token_id": 0}
WIDE = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4, "decoder_attention_heads": 4}
BARTS = {"d_model": 16, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, **WIDE, "forced_eos_token_id": None}
T5S = {"d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 1, "num_decoder_layers": 1, "num_heads": 4}
PROPHETS = {
    "hidden_size": 16, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "num_encoder_layers": 1, "num_decoder_layers": 1,
    "num_encoder_attention_heads": 4, "num_decoder_attention_heads": 4,
}  # fmt: skip
PLACES = {"max_position_embeddings": 96}
LEDS = {"max_encoder_position_embeddings": 96, "max_decoder_position_embeddings": 80, "attention_window": 16}
FAMILIES: dict[str, dict[str, Any]] = {
    "BartForConditionalGeneration": {**BARTS, **PLACES},
    "MBartForConditionalGeneration": {**BARTS, **PLACES},
    "PegasusForConditionalGeneration": {**BARTS, **PLACES},
    "MarianMTModel": {**BARTS, **PLACES},
    "BlenderbotForConditionalGeneration": {**BARTS, **PLACES},
    "BigBirdPegasusForConditionalGeneration": {**BARTS, **PLACES, "attention_type": "original_full"},
    "LEDForConditionalGeneration": {**BARTS, **LEDS},
    "ProphetNetForConditionalGeneration": {**PROPHETS, **PLACES},
    "LongT5ForConditionalGeneration": T5S,
    "MT5ForConditionalGeneration": {**T5S, "feed_forward_proj": "gated-gelu"},
}


def small(name: str, vocabulary: int = 400, **more: Any) -> Any:
    """The model of a class, with this many tokens."""
    torch.manual_seed(3)
    kind = getattr(transformers, name)
    return kind(kind.config_class(vocab_size=vocabulary, **TOKENS, **{**FAMILIES[name], **more}))


def saved(name: str, folder: Path, **more: Any) -> Any:
    """The same, written as a folder."""
    net = small(name, **more)
    net.save_pretrained(folder)
    return net
