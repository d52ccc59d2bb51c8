"""Random causal models of two layers."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tests.engine.data.chat.kinds import KINDS

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


def chatty(folder: Path, model_type: str, **more: Any) -> dict[str, Any]:
    """The settings of a run from a small model that is written to the folder with a tokenizer and its template."""
    tokenizer = KINDS["chatml"].tokenizer()
    tokenizer.save_pretrained(folder)
    ends = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos")}
    saved(folder, model_type, **{"vocab_size": len(tokenizer), "max_position_embeddings": 256, **ends, **more})
    own = {"pretrained_model": str(folder), "tokenizer": str(folder), "optimizer": "adamw", "freeze": ""}
    return {**own, "max_seq_len": 200, "micro_batch_tokens": 256}
