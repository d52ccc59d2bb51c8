"""Models with adapters, as they are at first and after some steps."""

from dataclasses import replace
from typing import Any

import torch

from engine.contract.config import RunConfig, override
from engine.contract.presets import preset
from engine.models import lora
from engine.models.lora import Adapters
from engine.models.registry import parts_of


def settings(**values: Any) -> RunConfig:
    """Settings of a run with adapters of rank 4 on everything."""
    given = {"lora_rank": 4, "freeze": "", "pretrained_model": "base", **values}
    return override(preset("sft-small").config, given)[0]


def adapted(net: Any, **values: Any) -> Adapters:
    """The adapters that a model gets by some settings."""
    adapters = lora.prepare_learning(net, settings(**values), parts_of(net))[1]
    assert adapters is not None
    return adapters


def filled(adapters: Adapters, seed: int = 5, kind: torch.dtype = torch.float32) -> Adapters:
    """The adapters after some steps, of a model whose files are in a dtype: B is not zero."""
    generator = torch.Generator().manual_seed(seed)
    for layer in adapters.layers.values():
        layer.lora_B.data.copy_(torch.randn(layer.lora_B.shape, generator=generator) / 8)
    return replace(adapters, kind=kind)


def learning(net: Any, config: RunConfig) -> None:
    """Lets learn what the settings say, adapters as they are after some steps."""
    adapters = lora.prepare_learning(net, config, parts_of(net))[1]
    if adapters is not None:
        filled(adapters)
