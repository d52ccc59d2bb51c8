"""The configuration of a GGUF file's model, and what transformers does not carry over from the file."""

import math
from typing import Any

import numpy as np

from engine.contract.messages import InputError
from engine.contract.texts import Argument, Phrase
from engine.obtaining.gguf_file import GgufFile, GgufTensor, unreadable

ENCODERS = {"t5", "t5encoder", "umt5"}  # published in transformers' format; a GGUF of one is rare
ROPE_FACTORS = "rope_freqs.weight"
# Llama 3.1 and later: https://github.com/meta-llama/llama-models, the same in all of them but for the factor.
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
CLOSE = 1e-3  # of a factor


def require_convertible(file: GgufFile) -> None:
    """Raises InputError for a file that is not a whole model of a known architecture."""
    from transformers.integrations.gguf.gguf_config_mapping import GGUF_CONFIG_ARCHS
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    if not file.architecture:
        raise unreadable(file.path, "no_architecture")
    if file.keys.get("general.type", "model") != "model" or file.architecture == "clip":
        kind = str(file.keys.get("general.type") or file.architecture)[:60]
        raise InputError("gguf_part", path=str(file.path), kind=kind)
    parts = file.keys.get("split.count", 0)
    if isinstance(parts, int) and parts > 1:
        raise InputError("gguf_split", path=str(file.path), count=parts)
    known = {*GGUF_SUPPORTED_ARCHITECTURES, *GGUF_CONFIG_ARCHS} - ENCODERS
    if file.architecture not in known:
        raise _unknown(file, Phrase.of("gguf.architecture", name=file.architecture[:60]))
    scaling = str(file.own("rope.scaling.type") or "none")
    factor = file.own("rope.scaling.factor")
    if scaling != "none" and factor not in (None, 1.0):
        raise _unknown(file, Phrase.of("gguf.rope", name=scaling[:60]))
    if any(tensor.name.startswith("rope_factors") for tensor in file.tensors):
        raise _unknown(file, Phrase.of("gguf.rope", name="longrope"))


def _unknown(file: GgufFile, why: Argument) -> InputError:
    base = str(file.keys.get("general.base_model.0.repo_url") or "")
    owner_and_name = "/".join(base.rstrip("/").split("/")[-2:])[:100] if base else "OWNER/NAME"
    return InputError("gguf_unknown", path=str(file.path), why=why, base=owner_and_name)


def completed(config: Any, file: GgufFile) -> None:
    """Completes the configuration that transformers made of a file; raises InputError if it cannot be done exactly."""
    for name, value in list(vars(config).items()):
        setattr(config, name, _shortest(value))
    if (factors := next((tensor for tensor in file.tensors if tensor.name == ROPE_FACTORS), None)) is not None:
        config.rope_parameters = {**config.rope_parameters, **_llama3_scaling(config, file, factors)}


def _shortest(value: Any) -> Any:
    """A float32 of the file as the decimal number that it was made from."""
    if isinstance(value, dict):
        return {name: _shortest(entry) for name, entry in value.items()}
    if isinstance(value, float) and math.isfinite(value) and float(np.float32(value)) == value:
        return float(str(np.float32(value)))
    return value


def _llama3_scaling(config: Any, file: GgufFile, tensor: GgufTensor) -> dict[str, Any]:
    """The settings of Llama 3's rope that give the factors which the file holds in their place; raises InputError."""
    data = np.memmap(file.path, mode="r", dtype=np.uint8)[tensor.at : tensor.at + tensor.size]
    held = np.array(data.view("<f4")) if tensor.kind == "F32" else np.zeros(0, np.float32)
    factor = float(np.round(held.max(initial=0.0), 3))
    theta = float(config.rope_parameters["rope_theta"])
    wavelengths = 2 * math.pi * theta ** (np.arange(len(held)) / max(len(held), 1))
    context, low, high = (
        LLAMA3["original_max_position_embeddings"],
        LLAMA3["low_freq_factor"],
        LLAMA3["high_freq_factor"],
    )
    smooth = np.clip((context / wavelengths - low) / (high - low), 0.0, 1.0)
    wanted = 1 / ((1 - smooth) / max(factor, 1.0) + smooth)
    if not len(held) or np.abs(held / wanted - 1).max() > CLOSE:
        raise _unknown(file, Phrase.of("gguf.rope", name=ROPE_FACTORS))
    return {} if factor == 1 else {"rope_type": "llama3", "factor": factor, **LLAMA3}
