"""Random causal models of two layers."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

SMALL = {
    "vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
NOT_OF_GPT2 = ("intermediate_size", "num_key_value_heads")


def configuration(model_type: str, **more: Any) -> Any:
    """The configuration of a small model."""
    settings = {**SMALL, **more}
    if model_type == "gpt2":
        settings = {name: value for name, value in settings.items() if name not in NOT_OF_GPT2}
    return AutoConfig.for_model(model_type, **settings)


def model(model_type: str, **more: Any) -> Any:
    """A small model with random weights."""
    torch.manual_seed(3)
    return AutoModelForCausalLM.from_config(configuration(model_type, **more))


def saved(folder: Path, model_type: str, **more: Any) -> Path:
    """The folder, with a small model in it."""
    model(model_type, **more).save_pretrained(folder)
    return folder
