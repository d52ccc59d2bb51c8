"""The optimizer, and the learning rate as a function of the step."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from engine.contract.config import RunConfig


def make_optimizer(config: RunConfig, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer over the parameters that learn."""
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=config.learn_rate, weight_decay=config.weight_decay)
    return torch.optim.Adafactor(parameters, lr=config.learn_rate, weight_decay=config.weight_decay)


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
