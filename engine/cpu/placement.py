"""Where tensors lie: the host must not wait for values on another device; its own it reads at no cost."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

# By a weight's identity, dtype and scale; with the weight, which keeps its identity while it is held.
_casts: ContextVar[dict[tuple[int, torch.dtype, float | None], tuple[Tensor, Tensor]] | None] = ContextVar(
    "casts", default=None
)


def on_host(values: Tensor) -> bool:
    """Whether the processor itself computes with these values, so that reading one costs nothing."""
    return values.device.type == "cpu"


@contextmanager
def keeping_casts() -> Iterator[None]:
    """Keeps the casts of weights to the end: those by `cast`, and autocast's, which end with each of its contexts.

    The weights must not change within.
    """
    torch.autocast_increment_nesting()
    token = _casts.set({})
    try:
        yield
    finally:
        _casts.reset(token)
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()


def cast(weight: Tensor, kind: torch.dtype, scale: float | None = None) -> Tensor:
    """A weight in another dtype, without a graph, times `scale` before; made once within `keeping_casts`."""
    held, key = _casts.get(), (id(weight), kind, scale)
    if held is not None and key in held:
        return held[key][1]
    value = weight.detach()
    made = (value if scale is None else value * scale).to(kind)
    if held is not None:
        held[key] = (weight, made)
    return made


def uploaded(tensors: list[Tensor], device: torch.device) -> list[Tensor]:
    """Tensors of int64 on a device, by one copy, which CUDA makes without a wait; on the processor, themselves."""
    return tensors if device.type == "cpu" else parted(copied(laid(tensors), device), tensors)


def all_on(tensors: list[Tensor], device: torch.device) -> list[Tensor]:
    """The same on a device, those that are on the host by one copy; all have one dtype, and one shape but for rows."""
    here = [tensor for tensor in tensors if tensor.device != device]
    if not here:
        return tensors
    sent = iter(copied(torch.cat(here), device).split([len(tensor) for tensor in here]))
    return [tensor if tensor.device == device else next(sent) for tensor in tensors]


def copied(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on a device, where CUDA copies it without a wait; on the processor, itself."""
    pins = device.type == "cuda"
    return (tensor.pin_memory() if pins else tensor).to(device, non_blocking=pins)


def fetched(tensor: Tensor) -> Callable[[], Tensor]:
    """Begins to copy a tensor to the host; what it returns gives the copy, and waits only if that is not there yet."""
    if tensor.device.type != "cuda":
        return lambda: tensor.to("cpu")
    held = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    held.copy_(tensor, non_blocking=True)
    copied_at = torch.cuda.Event()
    copied_at.record(torch.cuda.current_stream(tensor.device))

    def read() -> Tensor:
        copied_at.synchronize()
        return held

    return read


def laid(tensors: list[Tensor]) -> Tensor:
    """The values of some tensors one after the other, as int32: ids of tokens, places and masks are below 2^31."""
    return torch.cat([tensor.flatten() for tensor in tensors]).int()


def parted(flat: Tensor, like: list[Tensor]) -> list[Tensor]:
    """The opposite of `laid`: int64 tensors of the shapes of `like`."""
    parts = flat.long().split([tensor.numel() for tensor in like])
    return [part.view(tensor.shape) for part, tensor in zip(parts, like, strict=True)]
