"""The memory that a model needs to reply, predicted from its files before it is loaded."""

import json
from pathlib import Path

from engine.contract.files import read_linked
from engine.contract.machine.host import HostReader
from engine.contract.messages import InputError
from engine.contract.processor import multiplies_bf16
from sft_tui.text import size

RUNTIME = 480_000_000  # bytes of a process that has loaded torch and transformers, without any model
WEIGHTS = ("*.safetensors", "*.bin")
HALF = ("float16", "bfloat16")
ENCODER_DECODERS = ("t5", "mt5")  # which reply in fp32
REPLYING = 1.15  # of the weights: with the cache of a conversation and the logits


def needed(folder: str) -> int:
    """Bytes that the process of a model takes at most."""
    place = Path(folder)
    stored = next((found for pattern in WEIGHTS if (found := sum(map(_size, place.glob(pattern))))), 0)
    return int(RUNTIME + stored * (1 + _held_in_32_bits(place)) * REPLYING)


def available() -> int:
    """Bytes that a process can take now; 0 if unknown."""
    return HostReader().read([], Path.cwd()).memory_available


def require_room(folder: str) -> None:
    """Raises InputError if the model of a folder does not fit into what is free."""
    need, free = needed(folder), available()
    if free and need > free:
        raise InputError("chat_no_room", model=folder, need=size(need), free=size(free))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _held_in_32_bits(folder: Path) -> bool:
    """Whether weights stored in 16 bits are held in 32."""
    try:
        config = json.loads(read_linked(folder / "config.json"))
    except (OSError, ValueError, RecursionError):
        return False
    if not isinstance(config, dict) or config.get("dtype", config.get("torch_dtype")) not in HALF:
        return False
    return config.get("model_type") in ENCODER_DECODERS or not multiplies_bf16()
