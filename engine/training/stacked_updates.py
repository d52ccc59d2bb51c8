"""Adafactor on a device that the host must not wait for: parameters of one shape are updated as one stack.

torch's own reads two norms of each parameter, which are some hundred waits a step. Here they stay on the device, and a
model's layers, which have the same shapes, take a few calls together.
After Shazeer and Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost" (2018).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

STACKED = 1 << 24  # values of the gradients in one stack: twice these, 128 MiB of fp32, exist in addition


@dataclass(frozen=True)
class Learning:
    """A parameter, its gradient, and its state as torch's Adafactor keeps it.

    A matrix, (rows, columns), has a second moment for its rows, (rows, 1), and one for its columns, (1, columns);
    anything else has one for each value.
    """

    parameter: Tensor
    gradient: Tensor
    row_var: Tensor | None
    col_var: Tensor | None
    variance: Tensor | None
    step: Tensor  # updates so far; on the host, which reads it at no cost


def adafactor(parameters: Sequence[Learning], settings: Mapping[str, Any]) -> None:
    """Updates parameters and their state; `settings` are those of a group of torch's optimizer."""
    for one in parameters:
        one.step.add_(1)
    for stack in _stacks(parameters):
        _update(stack, settings)


def _stacks(parameters: Sequence[Learning]) -> Iterator[list[Learning]]:
    """Parameters of one shape that were updated equally often, as many together as a stack may hold."""
    alike: dict[tuple[torch.Size, torch.dtype, float], list[Learning]] = {}
    for one in parameters:
        alike.setdefault((one.gradient.shape, one.gradient.dtype, float(one.step)), []).append(one)
    for some in alike.values():
        most = max(1, STACKED // max(1, some[0].gradient.numel()))
        yield from (some[at : at + most] for at in range(0, len(some), most))


def _update(stack: Sequence[Learning], settings: Mapping[str, Any]) -> None:
    moved, parameters = float(stack[0].step), [one.parameter for one in stack]
    rate = min(float(settings["lr"]), 1 / moved**0.5)
    size = parameters[0].numel() ** 0.5
    alpha = torch.stack(torch._foreach_norm(parameters)).div_(size).clamp_(min=settings["eps"][1]).mul_(rate)
    if settings["weight_decay"]:
        torch._foreach_mul_(parameters, 1 - settings["lr"] * settings["weight_decay"])
    gradient = _stacked([one.gradient for one in stack])
    update = _inverse_root(stack, gradient, moved ** settings["beta2_decay"], settings["eps"][0]).mul_(gradient)
    flat = update.view(len(stack), -1)
    clipped = torch.linalg.vector_norm(flat, dim=1).div_(size * settings["d"]).clamp_(min=1.0)
    flat.mul_(alpha.div_(clipped).neg_()[:, None])
    torch._foreach_add_(parameters, list(update.unbind()))


def _inverse_root(stack: Sequence[Learning], gradient: Tensor, weight: float, least: float | None) -> Tensor:
    """One over the root of the second moments, shaped as the gradients; the moments take in these first."""
    least = torch.finfo(gradient.dtype).eps if least is None else least
    if stack[0].variance is not None:
        moment = _moved([one.variance for one in stack], gradient.square(), weight)
    else:
        row, column = (
            torch.linalg.vector_norm(gradient, dim=dim, keepdim=True).square_().div_(gradient.shape[dim])
            for dim in (-1, -2)
        )
        row = _moved([one.row_var for one in stack], row, weight)
        column = _moved([one.col_var for one in stack], column, weight)
        moment = row / row.mean(dim=-2, keepdim=True).clamp_(min=least) * column
    return moment.clamp_(min=least**2).rsqrt_()


def _moved(held: Sequence[Any], new: Tensor, weight: float) -> Tensor:
    """Moving averages with their newest values, as a stack; `held` takes them over."""
    found = torch.stack(list(held)).lerp_(new, weight)
    torch._foreach_copy_(list(held), list(found.unbind()))
    return found


def _stacked(tensors: list[Tensor]) -> Tensor:
    return tensors[0][None] if len(tensors) == 1 else torch.stack(tensors)
