"""The optimizer, and the learning rate as a function of the step."""

import inspect
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from engine.contract.config import RunConfig
from engine.network import kernels


def make_optimizer(config: RunConfig, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer over the parameters that learn."""
    if config.optimizer == "adamw":
        return AdamW(parameters, lr=config.learn_rate, weight_decay=config.weight_decay)
    return Adafactor(parameters, lr=config.learn_rate, weight_decay=config.weight_decay)


class _Uncompiled(torch.optim.Optimizer):
    """An optimizer without torch's compiler: 70 MB and a second, imported by these methods to keep it out of them."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group of parameters."""
        inspect.unwrap(torch.optim.Optimizer.add_param_group)(self, param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Lets go of every gradient, or fills it with zeros."""
        inspect.unwrap(torch.optim.Optimizer.zero_grad)(self, set_to_none)


class AdamW(_Uncompiled, torch.optim.AdamW):
    """torch's AdamW."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update."""
        return inspect.unwrap(torch.optim.AdamW.step)(self, closure)


class Adafactor(_Uncompiled, torch.optim.Adafactor):
    """torch's Adafactor, the same update and state in half its time on a CPU.

    The second moment of a matrix is r_i × c_j over the mean of r, so its inverse root is a product of a column and a
    row, and the update is made in the gradient's place, or compiled in neither's. Where the moment would be clamped,
    torch's own code is used.
    After Shazeer and Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost" (2018).
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update; every gradient that was used is gone afterwards."""
        others: list[tuple[nn.Parameter, Tensor]] = []
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and not self._update(parameter, group):
                    others.append((parameter, parameter.grad))
                parameter.grad = None
        for parameter, gradient in others:
            parameter.grad = gradient
        return super().step(closure)  # type: ignore[no-untyped-call]

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> bool:
        """Updates one matrix; False where it is left to torch."""
        gradient, state = parameter.grad, self.state[parameter]
        if gradient is None or gradient.dim() != 2 or gradient.dtype != torch.float32 or not state:
            return False
        moved = float(state["step"]) + 1
        weight = moved ** group["beta2_decay"]
        row, column, norm = _means_of_squares(gradient, parameter)
        row, column = state["row_var"].lerp(row[:, None], weight), state["col_var"].lerp(column[None], weight)
        least = torch.finfo(torch.float32).eps if group["eps"][0] is None else group["eps"][0]
        mean = row.mean(dim=-2, keepdim=True).clamp_(min=least)
        if float(row.min() * column.min() / mean) < least * least:
            return False
        state["step"].fill_(moved)
        state["row_var"].copy_(row)
        state["col_var"].copy_(column)
        rate = min(float(group["lr"]), 1 / moved**0.5)
        alpha = max(group["eps"][1], norm / parameter.numel() ** 0.5) * rate
        decay = 1 - group["lr"] * group["weight_decay"]
        _move(parameter, gradient, (row / mean).rsqrt_(), column.rsqrt_(), alpha, decay, group["d"])
        return True


def _means_of_squares(gradient: Tensor, parameter: Tensor) -> tuple[Tensor, Tensor, float]:
    """Of a gradient's rows and columns, and the parameter's norm."""
    rows, columns = gradient.shape
    if _compiled(gradient, parameter):
        by_row, by_column, of_parameter = kernels.squares(gradient, parameter)
        return by_row.div_(columns), by_column.div_(rows), float(of_parameter.sum()) ** 0.5
    # A norm over columns takes torch 8 ms for 768 × 3,072, and the product of its squares with ones 0.6 ms.
    squares, ones = gradient.square(), torch.ones_like
    by_row, by_column = torch.mv(squares, ones(squares[0])), torch.mv(squares.t(), ones(squares[:, 0]))
    return by_row.div_(columns), by_column.div_(rows), float(torch.linalg.vector_norm(parameter))


def _move(
    parameter: Tensor, gradient: Tensor, by_row: Tensor, by_column: Tensor, alpha: float, decay: float, most: float
) -> None:
    """Decays the parameter and subtracts `alpha` × update, its root mean square held to `most`.

    The update is gradient × `by_row` × `by_column`, which are (rows, 1) and (1, columns).
    """
    size = parameter.numel() ** 0.5
    if _compiled(gradient, parameter):
        along = kernels.squares_scaled(gradient, by_column[0]).mul_(by_row[:, 0].square())
        clipped = max(1.0, float(along.sum()) ** 0.5 / (size * most))
        kernels.update_(parameter, gradient, by_row[:, 0].mul(-alpha / clipped), by_column[0], decay)
    else:
        update = gradient.mul_(by_row).mul_(by_column)
        clipped = max(1.0, float(torch.linalg.vector_norm(update)) / (size * most))
        parameter.mul_(decay).add_(update, alpha=-alpha / clipped)


def _compiled(gradient: Tensor, parameter: Tensor) -> bool:
    return kernels.serve(gradient) and gradient.is_contiguous() and parameter.is_contiguous()


def warmup(config: RunConfig, steps_total: int) -> int:
    """Warm-up steps of a run: as set, but at most 30 % of it."""
    return min(config.warmup_steps, steps_total * 3 // 10)


def learning_rate(config: RunConfig, step: int, steps_total: int) -> float:
    """The learning rate of `step` (counted from 0).

    A line from `learn_rate` to the peak over the warm-up, then half a cosine that reaches 0 after the last step.
    """
    peak = config.peak_learn_rate()
    rise = warmup(config, steps_total)
    if step < rise:
        return config.learn_rate + (peak - config.learn_rate) * step / rise
    done = (step - rise) / (steps_total - rise)
    return peak * (1 + math.cos(math.pi * done)) / 2


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Sets the rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def state_tensors(optimizer: torch.optim.Optimizer, names: dict[int, str]) -> dict[str, Tensor]:
    """The optimizer's state as named tensors, "<state>:<parameter>"; `names` maps id(parameter) to its name."""
    return {
        f"{key}:{names[id(parameter)]}": torch.as_tensor(value)
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def load_state_tensors(
    optimizer: torch.optim.Optimizer, parameters: dict[str, nn.Parameter], tensors: dict[str, Tensor]
) -> None:
    """Puts back what `state_tensors` gave."""
    for name, value in tensors.items():
        key, _, parameter = name.partition(":")
        target = parameters[parameter]
        # `step` counts on the CPU wherever the parameters are.
        optimizer.state[target][key] = value.clone() if key == "step" else value.clone().to(target.device)
