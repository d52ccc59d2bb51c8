"""Adapters as peft writes them, for programs that load a base model and add an adapter to it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.models.lora import Adapters
from engine.training.tensorfile import save_file

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
PREFIX = "base_model.model."  # what peft puts before the names of the base model


def write_adapter(folder: Path, model: Any, adapters: Adapters, base: str) -> None:
    """Writes the adapters of a model whose weights came from `base`; raises OSError."""
    folder.mkdir()
    tensors = {f"{PREFIX}{name}.weight": parameter.detach() for name, parameter in adapters.parameters().items()}
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(config_of(model, adapters, base), indent=2, sort_keys=True) + "\n")


def config_of(model: Any, adapters: Adapters, base: str) -> Mapping[str, Any]:
    """The content of peft's adapter_config.json."""
    return {
        "peft_type": "LORA",
        "task_type": "SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM",
        "base_model_name_or_path": str(Path(base).resolve()),
        "r": adapters.rank,
        "lora_alpha": adapters.alpha,
        "use_rslora": adapters.scaling == "rank-stabilized",
        "target_modules": _targets(model, adapters),
        "fan_in_fan_out": any(layer.transposed for layer in adapters.layers.values()),
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
        "init_lora_weights": True,
    }


def _targets(model: Any, adapters: Adapters) -> list[str]:
    """The last parts of the layers' names if they mean these layers only, as peft reads them; else the whole names."""
    last = sorted({name.rpartition(".")[2] for name in adapters.layers})
    meant = {name for name, _ in model.named_modules() if name.rpartition(".")[2] in last}
    return last if meant == adapters.layers.keys() else sorted(adapters.layers)
