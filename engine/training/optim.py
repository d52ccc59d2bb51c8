"""The optimizer, and the learning rate as a function of the step."""

import inspect
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from engine.contract.config import RunConfig
from engine.cpu import placement, reference
from engine.cpu.kernels import kernels_for
from engine.cpu.reference import Matrix
from engine.training import stacked_updates

PIECE = 1 << 18  # values of a parameter that are updated together


def make_optimizer(config: RunConfig, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer for the trained parameters, on the device that they are on."""
    parameters = list(parameters)
    if config.optimizer == "adamw":
        fused = None if placement.on_host(parameters[0]) else True  # one kernel for all of them
        return AdamW(parameters, lr=config.learn_rate, weight_decay=config.weight_decay, fused=fused)
    return Adafactor(parameters, lr=config.learn_rate, weight_decay=config.weight_decay)


class _WithoutTorchCompile(torch.optim.Optimizer):
    """An optimizer that does not import torch's compiler (70 MB and a second), as the methods of torch's class do."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group of parameters."""
        inspect.unwrap(torch.optim.Optimizer.add_param_group)(self, param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drops every gradient, or fills it with zeros."""
        inspect.unwrap(torch.optim.Optimizer.zero_grad)(self, set_to_none)


class AdamW(_WithoutTorchCompile, torch.optim.AdamW):
    """torch's AdamW with the same update; one that is not fused is made of a piece of a parameter at a time.

    Its temporary tensors are as large as a parameter, and two exist at once: of SmolLM2-135M's embeddings, 226 MB.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update."""
        if self.param_groups[0]["fused"]:
            return inspect.unwrap(torch.optim.AdamW.step)(self, closure)
        for group in self.param_groups:
            lists: list[list[Tensor]] = [[] for _ in range(6)]
            self._init_group(group, *lists)  # type: ignore[no-untyped-call]
            beta1, beta2 = group["betas"]
            for parameter, gradient, mean, square, count in zip(*lists[:4], lists[5], strict=True):
                parameters, gradients, means, squares = _pieces(parameter.detach(), gradient, mean, square)
                adamw(
                    parameters,
                    gradients,
                    means,
                    squares,
                    max_exp_avg_sqs=[],
                    state_steps=[count.clone() for _ in parameters],
                    foreach=False,
                    amsgrad=group["amsgrad"],
                    beta1=beta1,
                    beta2=beta2,
                    lr=group["lr"],
                    weight_decay=group["weight_decay"],
                    eps=group["eps"],
                    maximize=group["maximize"],
                )
                count += 1
        return None


def _pieces(*tensors: Tensor) -> list[list[Tensor]]:
    """The same pieces of some tensors; each whole if they do not all lie end to end."""
    if all(tensor.is_contiguous() for tensor in tensors):
        return [list(tensor.view(-1).split(PIECE)) for tensor in tensors]
    return [[tensor] for tensor in tensors]


class Adafactor(_WithoutTorchCompile, torch.optim.Adafactor):
    """torch's Adafactor with the same update and state, in half the time on a CPU; on a device, in stacks.

    The second moment of a matrix is r_i × c_j over the mean of r, so its inverse root is a product of a column and a
    row. If the moment would be clamped, torch's own code is used.
    After Shazeer and Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost" (2018).
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Makes one update; on a CPU, every gradient that was used is dropped afterwards."""
        if not placement.on_host(self.param_groups[0]["params"][0]):
            return self._update_stacks()
        others: list[tuple[nn.Parameter, Tensor]] = []
        matrices: dict[Any, list[tuple[nn.Parameter, Matrix]]] = {}
        for group in self.param_groups:
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is None:
                    continue
                parameter.grad = None
                matrix = self._matrix(parameter, gradient, group)
                if matrix is None:
                    others.append((parameter, gradient))
                else:
                    kernels = kernels_for(gradient) if _end_to_end(matrix) else reference
                    matrices.setdefault(kernels, []).append((parameter, matrix))
        for kernels, some in matrices.items():
            for (parameter, matrix), done in zip(some, kernels.adafactor([m for _, m in some]), strict=True):
                if done:
                    self.state[parameter]["step"] += 1
                else:
                    others.append((parameter, matrix.gradient))
        matrices.clear()
        for parameter, gradient in others:
            parameter.grad = gradient
        return super().step(closure)  # type: ignore[no-untyped-call]

    def _update_stacks(self) -> None:
        for group in self.param_groups:
            lists: list[list[Any]] = [[] for _ in range(6)]
            self._init_group(group, *lists)
            stacked_updates.adafactor(list(map(stacked_updates.Learning, *lists)), group)

    def _matrix(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> Matrix | None:
        """The matrix to update, or None if it is left to torch."""
        state = self.state[parameter]
        if gradient.dim() != 2 or gradient.dtype != torch.float32 or not state:
            return None
        moved = float(state["step"]) + 1
        return Matrix(
            parameter,
            gradient,
            state["row_var"],
            state["col_var"],
            weight=moved ** group["beta2_decay"],
            least=torch.finfo(torch.float32).eps if group["eps"][0] is None else group["eps"][0],
            smallest=group["eps"][1],
            rate=min(float(group["lr"]), 1 / moved**0.5),
            decay=1 - group["lr"] * group["weight_decay"],
            most=group["d"],
        )


def _end_to_end(matrix: Matrix) -> bool:
    tensors = (matrix.parameter, matrix.gradient, matrix.row_var, matrix.col_var)
    return all(tensor.is_contiguous() and tensor.dtype == torch.float32 for tensor in tensors)


def warmup(config: RunConfig, steps_total: int) -> int:
    """The number of warm-up steps of a run: as set, or else the share of it that is set, but at most 30 % of it."""
    wanted = config.warmup_steps or math.ceil(config.warmup_ratio * steps_total)
    return min(wanted, steps_total * 3 // 10)


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


def slower(config: RunConfig) -> dict[str, Any]:
    """The settings to try after a run that diverged."""
    return {"learn_rate": config.learn_rate / 2}


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Sets the learning rate of every parameter group."""
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
    """Restores what `state_tensors` returned, whichever device it was saved on."""
    for name, value in tensors.items():
        key, _, parameter = name.partition(":")
        target = parameters[parameter]
        place = device_of_counter(optimizer, target) if key == "step" else target.device
        optimizer.state[target][key] = value.clone().to(place)


def device_of_counter(optimizer: torch.optim.Optimizer, parameter: Tensor) -> torch.device:
    """Where updates of a parameter are counted: on the CPU, unless all is done by one kernel on the device."""
    return parameter.device if optimizer.param_groups[0].get("fused") else torch.device("cpu")
