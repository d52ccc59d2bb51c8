"""The norm of many values, and whether all are finite.

Summed in fp32, the squares of one large matrix would lose up to a hundredth of their sum.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from engine.cpu import placement
from engine.cpu.kernels import FP32, kernels_for


def norm(tensors: Iterable[Tensor]) -> float:
    """The Euclidean norm of all values of some tensors, with a relative error up to 1e-6; copies none whole.

    Of a GPU the host waits for one number.
    """
    tensors = [tensor.detach() for tensor in tensors]
    if tensors and not placement.on_host(tensors[0]):
        return float(norm_there(tensors))
    return math.sqrt(sum(map(_squares, tensors)))


def norm_there(tensors: Iterable[Tensor]) -> Tensor:
    """The norm as a value on the GPU that has the tensors, which sums in blocks: the host waits for nothing."""
    tensors = [tensor.detach() for tensor in tensors]
    return torch.stack(torch._foreach_norm(tensors)).double().square().sum().sqrt()


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether all values of some tensors of one device are finite; the host waits for one answer."""
    found = [tensor.detach().isfinite().all() for tensor in tensors]
    return not found or bool(torch.stack(found).all())


def _squares(tensor: Tensor) -> float:
    values = tensor.detach().flatten()
    return kernels_for(values, FP32).squares(values)
