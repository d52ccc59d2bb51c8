"""The precision in which matrix products are computed."""

from collections.abc import Callable

import torch

from engine.contract.messages import Message
from engine.contract.processor import multiplies_bf16


def choose_precision(
    wanted: str, device: torch.device, everyone: Callable[[bool], bool] = bool
) -> tuple[str, Message | None]:
    """("bf16" or "fp32", and a notice if bf16 was not possible): bf16 only if the hardware computes in it.

    `everyone` says whether it does so for all ranks, which must compute in the same precision.
    """
    if wanted == "fp32":
        return "fp32", None
    if everyone(_native_bf16(device)):
        return "bf16", None
    return "fp32", Message.of("precision_fallback", device=device.type)


def _native_bf16(device: torch.device) -> bool:
    if device.type == "cpu":
        return multiplies_bf16()
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return True
