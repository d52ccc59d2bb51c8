"""Models to load, and how."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import (
    MT5Config,
    MT5ForConditionalGeneration,
    PreTrainedTokenizerBase,
    T5Config,
    T5ForConditionalGeneration,
)

from engine.contract.config import override
from engine.contract.presets import preset
from engine.data.tokenizer import load_tokenizer
from engine.models import loading, registry
from tests.engine.models.toy import Toy

Load = Callable[..., Any]


@pytest.fixture
def load(tiny_settings: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> Load:
    """Loads a model: `load(path, **settings)`."""

    def run(path: Path | str, tokenizer: Any = tokenizer, **settings: Any) -> Any:
        values = {**tiny_settings, "pretrained_model": str(path), **settings}
        return loading.load_model(override(preset("sft-small").config, values)[0], tokenizer)

    return run


@pytest.fixture
def tiny_mt5(tiny_t5: Path, tmp_path: Path) -> Path:
    """The folder of an mT5 with random weights: gated layers, and a head of its own."""
    torch.manual_seed(3)
    shape: dict[str, Any] = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
    vocabulary = json.loads((tiny_t5 / "config.json").read_text())["vocab_size"]
    config = MT5Config(vocab_size=vocabulary, **shape, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0)
    return save_untied(MT5ForConditionalGeneration(config), tmp_path / "mt5")


@pytest.fixture
def untied_t5(tiny_t5: Path, tmp_path: Path) -> Path:
    """The folder of a T5 as from version 1.1 on: a head of its own, whose input is not scaled."""
    values = json.loads((tiny_t5 / "config.json").read_text())
    config = T5Config(**{**values, "tie_word_embeddings": False, "scale_decoder_outputs": False})
    return save_untied(T5ForConditionalGeneration(config), tmp_path / "untied")


def save_untied(net: Any, folder: Path) -> Path:
    net.lm_head.weight = nn.Parameter(torch.randn_like(net.shared.weight))
    net.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def toy(tiny_tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterable[dict[str, Any]]:
    """Settings of a run with a model of a family that is registered for these tests."""
    torch.manual_seed(0)
    tokens, folder = len(load_tokenizer(str(tiny_tokenizer))), tmp_path_factory.mktemp("toy")
    weights = {f"{part}.weight": torch.randn(tokens, 16) for part in ("embed", "head")}
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "toy", "vocab_size": tokens, "eos_token_id": 1}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "FAMILIES", [*registry.FAMILIES, Toy()])
        yield {"pretrained_model": str(folder), "freeze": "", "learn_rate": 0.05}
