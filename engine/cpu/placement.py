"""Where tensors lie: the host must not wait for values on another device; its own it reads at no cost."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def on_host(values: Tensor) -> bool:
    """Whether the processor itself computes with these values, so that reading one costs nothing."""
    return values.device.type == "cpu"


@contextmanager
def keeping_casts() -> Iterator[None]:
    """Keeps the casts that autocast makes of learning weights, which would end with each of its contexts, to the end.

    The weights must not change within.
    """
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()


def uploaded(tensors: list[Tensor], device: torch.device) -> list[Tensor]:
    """Tensors of int64 on a device, by one copy, which CUDA makes without a wait; on the processor, themselves."""
    if device.type == "cpu":
        return tensors
    flat, pins = laid(tensors), device.type == "cuda"
    return parted((flat.pin_memory() if pins else flat).to(device, non_blocking=pins), tensors)


def laid(tensors: list[Tensor]) -> Tensor:
    """The values of some tensors one after the other, as int32: ids of tokens, places and masks are below 2^31."""
    return torch.cat([tensor.flatten() for tensor in tensors]).int()


def parted(flat: Tensor, like: list[Tensor]) -> list[Tensor]:
    """The opposite of `laid`: int64 tensors of the shapes of `like`."""
    parts = flat.long().split([tensor.numel() for tensor in like])
    return [part.view(tensor.shape) for part, tensor in zip(parts, like, strict=True)]
