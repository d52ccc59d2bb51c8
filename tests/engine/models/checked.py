"""Numerical gradients of functions that return their gradient once, and whose dropout is seeded again each time."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from engine.cpu.dropout import RandomBits

Function = Callable[..., Tensor]


class _Reseeded(torch.autograd.Function):
    """Runs a function again for each backward pass, since gradcheck asks for one after the other."""

    @staticmethod
    def forward(ctx: Any, function: Function, *inputs: Tensor) -> Tensor:
        ctx.function, ctx.inputs = function, inputs
        with torch.no_grad():
            return function(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs = [part.detach().requires_grad_(part.requires_grad) for part in ctx.inputs]
        learning = [part for part in inputs if part.requires_grad]
        with torch.enable_grad():
            found = iter(torch.autograd.grad(ctx.function(*inputs), learning, gradient))
        return None, *(next(found) if part.requires_grad else None for part in inputs)


def assert_gradients(function: Function, *inputs: Tensor) -> None:
    """That the gradients of all inputs that require one are those of finite differences; inputs are float64."""
    apply = cast(Function, _Reseeded.apply)
    assert torch.autograd.gradcheck(lambda *parts: apply(function, *parts), inputs)


def reseeded(source: RandomBits, seed: int = 3) -> RandomBits:
    """The source at the beginning of a step that torch's generator was seeded for."""
    torch.manual_seed(seed)
    source.seed()
    return source
